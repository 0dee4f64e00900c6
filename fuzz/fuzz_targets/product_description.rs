//! Fuzzes `product_description`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "product_description");
