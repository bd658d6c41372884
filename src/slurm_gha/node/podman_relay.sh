# shellcheck shell=bash disable=SC2034 # the files make one script, and share their variables
# A relay between Docker clients and a Podman before 4.6. That answers a client that waits for a container to be removed
# ("docker run --rm") as if every container ended with status 0: a step that fails would pass. The relay asks it to wait for
# the next exit instead, whose status it tells, and holds its answer until the container is gone.

readonly SG_PODMAN_ANSWERS_RIGHT=406

# need_podman: its version into SG_PODMAN_VERSION; and whether it needs the relay into SG_PODMAN_RELAY.
need_podman() {
  SG_PODMAN_RELAY='' SG_PODMAN_VERSION=''
  need_commands podman
  SG_PODMAN_VERSION=$(HOME=$SG_JOB_DIR podman --version 2>/dev/null) && SG_PODMAN_VERSION=${SG_PODMAN_VERSION##* } || true
  [[ $SG_PODMAN_VERSION =~ ^([0-9]+)\.([0-9]+) ]] ||
    fail "$SG_EXIT_NODE" "podman on node $SG_NODE does not tell its version, which launcher podman has to know"
  if ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] < SG_PODMAN_ANSWERS_RIGHT)); then
    SG_PODMAN_RELAY=yes
    command -v perl >/dev/null ||
      fail "$SG_EXIT_NODE" "podman $SG_PODMAN_VERSION on node $SG_NODE tells Docker clients a wrong exit status, which takes perl to mend, and there is none: install perl, or podman 4.6 or later"
  fi
}

# podman_relay: the program, for perl: LISTEN ENGINE, two paths of sockets.
podman_relay() {
  cat <<'END'
use strict;
use warnings;
use Socket;

my ($listen, $engine) = @ARGV;
$SIG{CHLD} = 'IGNORE';
socket(my $server, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
bind($server, pack_sockaddr_un($listen)) or die "$listen: $!\n";
listen($server, 128) or die "listen: $!\n";
while (1) {
    accept(my $client, $server) or next;
    my $pid = fork();
    if (defined $pid && $pid == 0) {
        close $server;
        relay($client);
        exit 0;
    }
    close $client;
}

# Two processes, so that neither direction ever waits for the other.
sub relay {
    my ($client) = @_;
    my $upstream = dial();
    pipe(my $told, my $tell) or die "pipe: $!\n";
    my $pid = fork();
    die "fork: $!\n" unless defined $pid;
    if ($pid == 0) {
        close $tell;
        while (sysread($upstream, my $chunk, 65536)) {
            # The headers of the answer come at once, and this when the container has ended.
            if ($chunk =~ /"StatusCode":/ && wanted($told, \my $name)) {
                until_gone($name);
            }
            put($client, $chunk);
        }
        shutdown($client, 1);
        return;
    }
    close $told;
    while (sysread($client, my $chunk, 65536)) {
        if ($chunk =~ s{\A(POST (?:/v[0-9.]+)?/containers/([A-Za-z0-9_.-]+)/wait\?condition=)removed }{$1next-exit }) {
            syswrite($tell, "$2\n");
        }
        put($upstream, $chunk);
    }
    shutdown($upstream, 1);
}

sub dial {
    socket(my $upstream, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
    connect($upstream, pack_sockaddr_un($engine)) or die "$engine: $!\n";
    return $upstream;
}

sub put {
    my ($to, $chunk) = @_;
    my $done = 0;
    while ($done < length $chunk) {
        my $written = syswrite($to, $chunk, length($chunk) - $done, $done);
        exit 0 unless defined $written;
        $done += $written;
    }
}

# Whether an answer that was asked for otherwise is due on this connection; the container's name into the second argument.
sub wanted {
    my ($told, $name) = @_;
    my $ready = '';
    vec($ready, fileno($told), 1) = 1;
    return 0 unless select($ready, undef, undef, 0) > 0;
    return 0 unless sysread($told, my $line, 4096);
    chomp $line;
    $$name = $line;
    return 1;
}

sub until_gone {
    my ($name) = @_;
    for (1 .. 200) {
        my $upstream = dial();
        put($upstream, "GET /v4.0.0/libpod/containers/$name/exists HTTP/1.0\r\nHost: engine\r\n\r\n");
        my $answer = '';
        while (sysread($upstream, my $chunk, 4096)) { $answer .= $chunk; }
        return if $answer =~ m{\AHTTP/[0-9.]+ 404 };
        select(undef, undef, undef, 0.05);
    }
}
END
}
