"""From a guest's image to a domain that can run: image formats and domain builders."""
