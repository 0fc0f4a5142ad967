"""Keys, MACs, PIN blocks and sealed card data. Primitives come from OpenSSL; none are our own."""
