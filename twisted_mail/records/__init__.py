"""The records of the DNS that a site needs for one of its domains: what they are, and whether they are there.

`facts` is what is known of the site, `wanted` the records that follow from it, `zone_text` those as lines to paste.
`checking` asks the DNS for each, and for what no zone of ours holds (PTR, lists of spammers, the MTA-STS policy).
"""
