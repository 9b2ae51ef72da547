"""An image with Kuscia's file tree and a program called kuscia that only listens: what the container is made of shows
in it, and nothing that Kuscia does. Kuscia's own image cannot be had everywhere.
"""

from __future__ import annotations

import docker

from tests.kuscia import built_image

PROGRAM = r"""#!/usr/bin/perl
use strict; use IO::Socket::INET; use IO::Select; $| = 1;
$SIG{TERM} = sub { exit 0 };
die "@ARGV" unless "@ARGV[0, 1]" eq "start -c";
open(my $file, "<", $ARGV[2]) or die "$ARGV[2]: $!";
print grep { /^domainID/ } <$file>;
my $ready = IO::Select->new(map {
    IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => $_, Listen => 5, ReuseAddr => 1) or die "$_: $!"
} 1080, 8082, 8083);
my $far = "FORWARD";
sub forward {
    my ($near) = @_;
    my $there = IO::Socket::INET->new(PeerAddr => $far) or die "$far: $!";
    my $both = IO::Select->new($near, $there);
    while (1) {
        for my $from ($both->can_read) {
            my $to = $from == $near ? $there : $near;
            sysread($from, my $piece, 65536) or exit 0;
            while (length $piece) { my $n = syswrite($to, $piece) or exit 0; substr($piece, 0, $n) = "" }
        }
    }
}
$SIG{CHLD} = "IGNORE";
while (1) {
    for my $door ($ready->can_read) {
        my $near = $door->accept or next;
        if ($far && $door->sockport == 8082 && !fork) { $SIG{TERM} = "DEFAULT"; forward($near) }
        $near->close;
    }
}
"""
TINI = '#!/bin/sh\nshift\nexec "$@"\n'
RECIPE = """\
FROM {base}
COPY tini /usr/bin/tini
COPY kuscia /home/kuscia/bin/kuscia
RUN mkdir -p /home/kuscia/etc/conf /home/kuscia/var/storage/data && echo sample > /home/kuscia/var/storage/data/sample
WORKDIR /home/kuscia
ENTRYPOINT ["tini", "--"]
"""


def build(engine: docker.DockerClient, base: str, name: str, forward: str = "") -> str:
    """The image's id. `base`: an image of Debian. `forward`: HOST:PORT of a KusciaAPI, which then answers on 8082."""
    programs = {"kuscia": PROGRAM.replace("FORWARD", forward), "tini": TINI}
    return built_image.build(engine, name, RECIPE.format(base=base), programs)
