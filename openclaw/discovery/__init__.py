"""How nodes hear of each other: mDNS, Tailscale and seeds. Hints only: never trust, never proof of life."""
