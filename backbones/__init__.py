"""Networks whose weights come as packages, registered with timm under names of their own."""
