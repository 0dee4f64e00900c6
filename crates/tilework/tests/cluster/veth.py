"""Sets up network interfaces by netlink, for where iproute2 is not installed.

    veth.py pair NAME PEER PID     two ends of a cable, PEER in the network namespace of that process
    veth.py address NAME ADDRESS   a /24 address of an interface
    veth.py up NAME
    veth.py down NAME
"""

import os
import socket
import struct
import sys

RTM_NEWLINK, RTM_NEWADDR = 16, 20
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_PID = 3, 18, 19
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFF_UP = 1


def attribute(kind, value):
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def name_of(name):
    return attribute(IFLA_IFNAME, name.encode() + b"\0")


def link(index=0, flags=0, change=0):
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def ask(kind, flags, body):
    header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(5)
        netlink.send(header + body)
        answer = netlink.recv(65536)
    (answered,) = struct.unpack_from("=H", answer, 4)
    (error,) = struct.unpack_from("=i", answer, 16)
    if answered != NLMSG_ERROR or error:
        sys.exit(f"{' '.join(sys.argv[1:])}: {os.strerror(-error)}")


def pair(name, peer, pid):
    peer_link = link() + name_of(peer) + attribute(IFLA_NET_NS_PID, struct.pack("=I", int(pid)))
    data = attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer_link))
    info = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"veth") + data)
    ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link() + name_of(name) + info)


def address(name, text):
    packed = socket.inet_aton(text)
    body = struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, socket.if_nametoindex(name))
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)


def up(name):
    ask(RTM_NEWLINK, 0, link(socket.if_nametoindex(name), IFF_UP, IFF_UP))


def down(name):
    ask(RTM_NEWLINK, 0, link(socket.if_nametoindex(name), 0, IFF_UP))


{"pair": pair, "address": address, "up": up, "down": down}[sys.argv[1]](*sys.argv[2:])
