"""Pages: templates, tables, forms, exports, languages."""
