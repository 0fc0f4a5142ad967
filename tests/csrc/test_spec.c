#include "table.h"

static void expect_refused(iso_spec spec, uint32_t field)
{
    iso_fault fault = {99, 99, 99, 99};
    spec.defined[0] = 7;
    CHECK(iso_spec_check(&spec, &fault) == ISO_E_SPEC);
    CHECK(fault.field == field);
    CHECK(spec.defined[0] == 7);
}

static void test_defined_fields_are_marked(void)
{
    const iso_spec spec = make_table(128, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    CHECK(spec.defined[0] & iso_bit(F_PAN));
    CHECK(spec.defined[0] & iso_bit(F_MAC));
    CHECK(spec.defined[1] == iso_bit(F_LAST));
    CHECK((spec.defined[0] & iso_bit(3)) == 0);
}

static void test_every_contradiction_is_refused(void)
{
    const iso_spec good = make_table(64, ISO_FORM_BCD, ISO_BITMAP_BINARY);
    iso_spec bad = good;
    bad.mti_form = 2;
    expect_refused(bad, 0);
    bad = good;
    bad.bitmap_form = 2;
    expect_refused(bad, 1);
    bad = good;
    bad.field_max = 65;
    expect_refused(bad, 1);
    bad = good;
    bad.fields[1] = good.fields[F_MAC];
    expect_refused(bad, 1);
    bad = good;
    bad.fields[65] = good.fields[F_MAC];
    expect_refused(bad, 65);
    bad = good;
    bad.fields[F_MAC].packing = 9;
    expect_refused(bad, F_MAC);
    bad = good;
    bad.fields[F_MAC].content = 99;
    expect_refused(bad, F_MAC);
    bad = good;
    bad.fields[F_MAC].unit = ISO_UNIT_DIGITS;
    expect_refused(bad, F_MAC);
    bad = good;
    bad.fields[F_MAC].length_min = 7; /* fixed, but two lengths */
    expect_refused(bad, F_MAC);
    bad = good;
    bad.fields[F_PAN].content = ISO_CONTENT_AN; /* letters do not fit nibbles */
    expect_refused(bad, F_PAN);
    bad = good;
    bad.fields[F_PAN].prefix_digits = 1; /* 19 does not fit one digit */
    expect_refused(bad, F_PAN);
    bad = good;
    bad.fields[F_PAN].prefix_digits = 5;
    expect_refused(bad, F_PAN);
    bad = good;
    bad.fields[F_PAN].prefix_form = 2;
    expect_refused(bad, F_PAN);
    bad = good;
    bad.fields[F_PAN].length_min = 20;
    expect_refused(bad, F_PAN);
    bad = good;
    bad.fields[F_PAN].length_max = 0;
    bad.fields[F_PAN].length_min = 0;
    expect_refused(bad, F_PAN);
}

int main(void)
{
    RUN(test_defined_fields_are_marked);
    RUN(test_every_contradiction_is_refused);
    return 0;
}
