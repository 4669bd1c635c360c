"""Reports between sites: DMARC aggregate reports (RFC 9990, RFC 7489) and TLS reports (RFC 8460), written and read.

`counting` gathers what deliveries tell, `storage.report_counts` keeps it, `sending` makes reports of it once a day.
`aggregate_read`, `tls_read` and `unpack` are for reports of others, which are hostile until read.
"""
