"""What the pages of all apps share: the base view, forms that are sent once, lists, and the parts of a row's page."""
