"""Ratio rules: how far the policy may have moved before a token stops counting (objectives.md 6).

    reinforce   1                                            no ratio: right with one update a step
    ratio       rho                                          no clip: something else holds the policy
    ppo         rho inside [1 - lo, 1 + hi], else 0          the default; dual clip, outer cap, tokens never clipped
    hapo        as ppo, with bounds of each token
    ce_gppo     as ppo, with a bounded gradient beyond
    cispo       rho cut at bounds                            every token keeps a gradient
    sapo        4 rho q (1 - q), q a sigmoid of rho          a smooth gate
    gspo        as ppo, with one ratio a sequence
    dppo        rho while its probability has moved little   the ratio is to the sampler

A rule gives c, which multiplies the advantage: W = A * c. It sees only the sign of A, so weighing a token's loss is
scaling its advantage. At rho = 1 all of them are `reinforce`: they need several updates a step to differ, or a sampler
that lags where the ratio is to the sampler.
"""
