"""What one can ask of a server, by what it is about: `client.models`, `.deployments`, `.rollouts`, `.runs`, …"""
