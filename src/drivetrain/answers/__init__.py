"""What the native API answers with: nouns of the domains, and here what is put together of them for one answer."""
