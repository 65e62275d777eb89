# Opens SCTP associations half-way and answers those of others, by raw packets: many kernels have no SCTP sockets, and Node has no raw ones.
# It judges nothing. One line in: `ID TIMEOUT_SECONDS ADDRESS:PORT ...`. One line out: `ID OUTCOME ...` in the same order, each `answered`, `silent`,
# or `icmp-TYPE-CODE`. It ends with its input.
use strict;
use warnings;
use Socket qw(AF_INET SOCK_RAW inet_aton inet_ntoa pack_sockaddr_in unpack_sockaddr_in);

use constant { SCTP => 132, ICMP => 1, OPENS => 1, ANSWERS => 2, ABORTS => 6 };

# CRC-32C, as conntrack checks it.
my @crc_table = map { my $c = $_; $c = $c & 1 ? ($c >> 1) ^ 0x82F63B78 : $c >> 1 for 1 .. 8; $c } 0 .. 255;

sub packet {
    my ($from, $to, $vtag, $chunk, $tag) = @_;
    my $body = pack('CCnNNnnN', $chunk, 0, 20, $tag, 65536, 1, 1, 1);
    my $crc = 0xFFFFFFFF;
    $crc = ($crc >> 8) ^ $crc_table[($crc ^ $_) & 0xFF] for unpack 'C*', pack('nnNN', $from, $to, $vtag, 0) . $body;
    return pack('nnN', $from, $to, $vtag) . pack('V', $crc ^ 0xFFFFFFFF) . $body;
}

socket(my $sctp, AF_INET, SOCK_RAW, SCTP) or die "no raw socket: $!\n";
socket(my $icmp, AF_INET, SOCK_RAW, ICMP) or die "no raw socket: $!\n";

my ($batch, %waiting, @outcomes, $deadline, $input);
my $next_port = 20000 + int rand 20000;
$input = '';
$| = 1;
print "ready\n";

while (1) {
    my $read = '';
    vec($read, fileno $_, 1) = 1 for \*STDIN, $sctp, $icmp;
    my $left = defined $batch ? $deadline - time : undef;
    finish() if defined $left && ($left <= 0 || !%waiting);
    next if defined $left && !defined $batch;
    my $ready = select($read, undef, undef, $left);
    next if $ready <= 0;
    hear_sctp() if vec($read, fileno $sctp, 1);
    hear_icmp() if vec($read, fileno $icmp, 1);
    if (vec($read, fileno STDIN, 1)) {
        last if !sysread STDIN, $input, 65536, length $input;
        begin($1) while !defined $batch && $input =~ s/^(.*)\n//;
    }
}

sub begin {
    my ($id, $timeout, @targets) = split ' ', shift;
    ($batch, $deadline, @outcomes) = ($id, time + 1 + $timeout);
    %waiting = ();
    for my $index (0 .. $#targets) {
        my ($address, $port) = split /:/, $targets[$index];
        $next_port = $next_port >= 59999 ? 20000 : $next_port + 1;
        $outcomes[$index] = 'silent';
        $waiting{$next_port} = { index => $index, address => $address, port => $port };
        send $sctp, packet($next_port, $port, 0, OPENS, 1 + int rand 0xFFFFFFF0), 0, pack_sockaddr_in(0, inet_aton $address)
            or settle($next_port, "send-@{[$! + 0]}");
    }
}

sub settle {
    my ($own, $outcome) = @_;
    my $asked = delete $waiting{$own} or return;
    $outcomes[$asked->{index}] = $outcome;
}

sub finish {
    print join(' ', $batch, @outcomes), "\n";
    undef $batch;
    %waiting = ();
}

sub hear_sctp {
    my $peer = recv $sctp, my $bytes, 2048, 0;
    return if !defined $peer;
    my $at = 4 * (ord($bytes) & 0xF);
    return if length $bytes < $at + 16;
    my ($from, $to, undef, undef, $chunk) = unpack 'nnNNC', substr $bytes, $at;
    my $address = inet_ntoa((unpack_sockaddr_in $peer)[1]);
    if ($chunk == OPENS && length $bytes >= $at + 20) {
        my $tag = unpack 'N', substr $bytes, $at + 16, 4;
        send $sctp, packet($to, $from, $tag, ANSWERS, 1 + int rand 0xFFFFFFF0), 0, pack_sockaddr_in(0, inet_aton $address);
    } elsif ($chunk == ANSWERS || $chunk == ABORTS) {
        # A kernel that knows SCTP but has no listener says ABORT: it arrived all the same.
        my $asked = $waiting{$to};
        settle($to, 'answered') if defined $asked && $asked->{address} eq $address && $asked->{port} == $from;
    }
}

# An ICMP error carries the header of the packet that it is about, with the first eight bytes behind it.
sub hear_icmp {
    return if !defined recv $icmp, my $bytes, 2048, 0;
    my $at = 4 * (ord($bytes) & 0xF);
    return if length $bytes < $at + 8 + 20 + 8;
    my ($type, $code) = unpack 'CC', substr $bytes, $at, 2;
    my $inner = substr $bytes, $at + 8;
    return if ord(substr $inner, 9, 1) != SCTP;
    my ($own, $port) = unpack 'nn', substr $inner, 4 * (ord($inner) & 0xF), 4;
    my $asked = $waiting{$own};
    settle($own, "icmp-$type-$code") if defined $asked && $asked->{port} == $port && $asked->{address} eq inet_ntoa(substr $inner, 16, 4);
}
