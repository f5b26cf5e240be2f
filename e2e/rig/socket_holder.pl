# What systemd does for a service with a socket unit (sd_listen_fds(3)), for tests: holds a listening socket, and starts
# the program with it as often as a line comes in.
#
#   perl socket_holder.pl PORT NAME PROGRAM ARGUMENT...
#
# Writes `started PID` and `exited PID STATUS`. It accepts nothing itself, and ends when its input ends.
use strict;
use warnings;
use POSIX ();
use Socket;

my ($port, $name, @command) = @ARGV;
$^F = 10;    # descriptors up to here stay open over exec
socket(my $listener, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, pack('l', 1)) or die "setsockopt: $!";
bind($listener, sockaddr_in($port, INADDR_LOOPBACK)) or die "bind: $!";
listen($listener, 1024) or die "listen: $!";
if (fileno($listener) != 3) { POSIX::dup2(fileno($listener), 3) or die "dup2: $!" }
$| = 1;
while (<STDIN>) {
  my $pid = fork() // die "fork: $!";
  if ($pid == 0) {
    $ENV{LISTEN_PID} = $$;
    $ENV{LISTEN_FDS} = 1;
    $ENV{LISTEN_FDNAMES} = $name;
    open(STDIN, '<', '/dev/null');
    exec(@command) or POSIX::_exit(127);
  }
  print "started $pid\n";
  waitpid($pid, 0);
  print "exited $pid $?\n";
}
