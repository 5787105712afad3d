"""Who may do what with a workload: access rules and tokens, resolved for one workload."""
