"""Who has an account here, who may log in as whom, and what that gives.

`directory` (on `tables` and `expansion`) keeps domains, users and aliases; `passwords` the records;
`checkers` and `realm` are their sides for twisted.cred; `authenticate` is what sessions see.
"""
