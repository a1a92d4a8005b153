//! URLs or files in, a clean data set out: plan, runner, journal, shards
