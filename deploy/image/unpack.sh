#!/bin/sh
# unpack.sh FOLDER PACKAGE...: unpacks Debian packages and all that they depend on into a folder, without running
# their scripts, and without what only installing needs. What each package was is kept in var/lib/dpkg/status.d,
# where scanners look for it, its licence in usr/share/doc.
set -eu
root=$1
shift

apt-get update -qq
mkdir -p /packages/partial "$root/var/lib/dpkg/status.d"
# With an empty list of what is installed, apt fetches every dependency.
apt-get install -qq --yes --download-only --no-install-recommends -o Dir::State::status=/dev/null -o Dir::Cache::archives=/packages "$@"

# Debian's merged /usr, before anything is unpacked into it.
for folder in bin sbin lib lib32 lib64 libx32; do
    mkdir -p "$root/usr/$folder"
    ln -s "usr/$folder" "$root/$folder"
done
for archive in /packages/*.deb; do
    name=$(dpkg-deb --field "$archive" Package)
    case $name in
        # Installers and their languages; the scripts of packages are not run, and openssl's program only by one of them.
        debconf | dpkg | gcc-*-base | mawk | media-types | openssl | perl-base | readline-common | tar) continue ;;
    esac
    dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$root"
    dpkg-deb --field "$archive" > "$root/var/lib/dpkg/status.d/$name"
done

# What the packages' scripts would have done.
cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"
echo 'root:x:0:0:root:/:/usr/sbin/nologin' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"

rm -r "$root/var/run" "$root/var/lock" "$root/var/local"
ln -s /run "$root/var/run"

# Places where a container that may not write has something mounted.
mkdir -p "$root/etc/uproxy/manifests" "$root/var/lib/uproxy"
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share" -mindepth 1 -maxdepth 1 ! -name doc -exec rm -r {} +
# Scripts that need a shell, and the C library's character sets, which Python brings itself.
rm -r "$root"/usr/bin/py3* "$root/usr/sbin/update-ca-certificates" "$root"/usr/lib/*/gconv
