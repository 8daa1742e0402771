"""The stories of the gallery in reports/, each a comparison with a title and a few sentences, and the page that lists them."""
