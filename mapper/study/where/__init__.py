"""Where splitting a model pays, by the planner's own cost model: a map over work per weight byte and weights relative
to the caches."""
