#!/bin/sh
# Takes out of a system's tree, $1, what a node does not need and what differs between two builds of the same packages.
# Used at the end of a bake and for a base image made with debootstrap. Never run it on a machine that lives on.
set -eu
umask 022
cd "${1:?the root of the tree}"
# Package lists, caches, documentation.
rm -rf var/lib/apt/lists/* var/cache/apt/* usr/share/doc/* usr/share/man/* usr/share/locale/* usr/share/info/*
rm -rf root/.cache root/.ansible var/tmp/*
# Not what Ansible runs from at this moment; it removes that itself.
find tmp -mindepth 1 -maxdepth 1 ! -name 'ansible_*' -exec rm -rf {} +
# Logs, backups of edited files, a cache with inode numbers, the identity of one machine.
rm -rf var/log/apt var/cache/ldconfig/aux-cache var/lib/dbus/machine-id
find var/log -mindepth 1 -maxdepth 1 -type f -delete
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- var/lib/dpkg/*-old var/cache/debconf/*-old
: > etc/machine-id
# The day on which a password was changed; no user has one. The file keeps its owner and mode.
awk -F: -v OFS=: '{ $3 = ""; print }' etc/shadow > etc/shadow.new
cat etc/shadow.new > etc/shadow
rm etc/shadow.new
