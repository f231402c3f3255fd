"""Every row of the fault matrix, injected for real: the fault, what must hold, and what must be visible.

A test says by `@pytest.mark.row(number)` which row it proves, in whatever folder it is; `git grep 'row(13)'` finds it.

 1  Redis down at the start                 15  unknown sender
 2  Redis comes back empty                  16  evasion by the log's size
 3  Redis frozen                            17  flood of bans
 4  Redis slow                              18  ban of a friend or of oneself
 5  Redis full                              19  firewall flushed by an admin
 6  failover                                20  enforcer killed
 7  scripts flushed                         21  reboot
 8  wrong password or rights                22  others edit the firewall at the same time
 9  subscriber cut                          23  clocks wrong or set
10  one RP partitioned                      24  datagrams doubled or out of order
11  worker of the receiver killed           25  two receivers get the same line
12  reload under load                       26  disk or /dev/shm full
13  UDP overflow                            27  garbage on the channel
14  malformed, binary, empty or oversized   28  slow resolver, slow connect
    datagrams
"""
