// What is wrong with how a page looks: too wide, targets too small, text too faint (WCAG 2.2 AA), fields without a
// label, no heading. For tests of pages: gives a list of texts.
() => {
const faults = [];
const page = document.documentElement;
if (page.scrollWidth > innerWidth + 1) {
  const wide = [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.table-box, pre, .chart'));
  faults.push(`page is ${page.scrollWidth} wide: ${wide.slice(0, 3).map((e) => e.tagName + '.' + e.className).join(', ')}`);
}
if (document.querySelectorAll('h1').length !== 1) faults.push(`${document.querySelectorAll('h1').length} headings h1`);
for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
  if (!field.labels?.length && !field.ariaLabel) faults.push(`field ${field.name} has no label`);
for (const each of document.querySelectorAll('button, a.button, .side a')) {
  const {width, height} = each.getBoundingClientRect();
  if (width && (width < 24 || height < 24)) faults.push(`${each.textContent.trim()}: ${width} x ${height}`);
  if (width && !each.textContent.trim() && !each.ariaLabel) faults.push('a button without a name');
}
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) faults.push(`id ${id} is there twice`);
const numbers = (text) => [...text.matchAll(/rgba?\(([^)]+)\)/g)].map(([, list]) => list.split(/[ ,/]+/).map(Number));
const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const ground = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const found = numbers(getComputedStyle(each).backgroundColor).filter((rgb) => (rgb[3] ?? 1) === 1);
    if (found.length) return found[0];
  }
  return [255, 255, 255];
};
const seen = new Set();
for (const element of document.querySelectorAll('body *')) {
  const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!said || !element.getClientRects().length || element.closest(':disabled, .sr, script, style, option')) continue;
  const style = getComputedStyle(element);
  const drawn = element instanceof SVGElement ? style.fill : style.color;
  if (!drawn.startsWith('rgb')) continue;
  const [ink, under] = [light(numbers(drawn)[0]), light(ground(element))];
  const contrast = (Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05);
  const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
  const name = `${element.tagName}.${element.getAttribute('class') || ''}`;
  if (contrast < least && !seen.has(name)) { seen.add(name); faults.push(`${name} "${element.textContent.trim().slice(0, 20)}": contrast ${contrast.toFixed(2)}`); }
}
return faults;
}
