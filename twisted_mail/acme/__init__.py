"""The site's certificate from a CA, and its renewal: ACME, RFC 8555.

`renewal.Renewal` is what the service starts. What lies where, all of it below ``<data>/acme``, in `files`.
"""
