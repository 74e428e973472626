"""timm's policies: its tables, its laws, and the strings that say them."""
