/** open(2), creat and close(2). Owns what flags and permissions mean. */
import { rule } from '../judge.ts'

const name255 = 'n'.repeat(255)
const name256 = 'n'.repeat(256)

export const openRules = [
  rule('O_CREAT makes an empty file of the caller, with mode and umask', `
    owner umask 022
    owner open f CREAT|RDWR 0666 -> f
    owner umask 0
    owner fstat $f : type=file mode=0644 nlink=1 uid=2001 gid=2001 size=0
    owner lstat f : mode=0644
  `),
  rule('O_CREAT on an existing file changes neither mode nor owner nor bytes', `
    owner put f hello
    owner chmod f 0664
    note f
    root open f CREAT|RDONLY 0600 -> r
    kept f mode uid gid size mtime ctime
    root read $r 10 = ok hello
  `),
  rule('O_CREAT moves mtime and ctime of the folder, and only when a file is made', `
    owner mkdir d 0755
    note d
    owner open d/f CREAT|WRONLY 0644 -> f
    later d mtime ctime
    note d
    owner open d/f CREAT|WRONLY 0644 -> g
    kept d mtime ctime
  `),
  rule('O_EXCL refuses whatever exists, symlinks too', `
    owner touch f 0644
    owner symlink nowhere s
    owner mkdir d 0755
    owner open f CREAT|EXCL|RDWR 0644 = EEXIST
    owner open s CREAT|EXCL|RDWR 0644 = EEXIST
    owner open d CREAT|EXCL|RDWR 0644 = EEXIST
    owner lstat nowhere = ENOENT
    owner open new CREAT|EXCL|RDWR 0640 -> n
    owner fstat $n : mode=0640 uid=2001 gid=2001 size=0
  `),
  rule('O_CREAT through a dangling symlink makes its target', `
    owner symlink target s
    owner open s CREAT|WRONLY 0644 -> s
    owner write $s x = ok 1
    owner close $s
    owner lstat target : type=file size=1
  `),
  rule('O_TRUNC empties and moves mtime and ctime, O_RDONLY without it leaves them', `
    owner put f hello
    note f
    owner open f WRONLY|TRUNC -> f
    later f mtime ctime
    owner lstat f : size=0
    note f
    owner open f RDONLY -> g
    kept f mtime ctime size
  `),
  rule('O_TRUNC needs write permission', `
    owner put f hello
    owner chmod f 0444
    other open f RDONLY|TRUNC = EACCES
    other open f WRONLY|TRUNC = EACCES
    owner open f WRONLY|TRUNC = EACCES
    owner lstat f : size=5
    root open f WRONLY|TRUNC -> f
    owner lstat f : size=0
  `),
  rule('O_APPEND writes at the end wherever the offset is', `
    owner put f hello
    owner open f RDWR|APPEND -> f
    owner write $f +1 = ok 2
    owner lseek $f 0 set = ok 0
    owner read $f 2 = ok he
    owner write $f +2 = ok 2
    owner get f = ok hello+1+2
    owner open f WRONLY|APPEND -> g
    owner write $g +3 = ok 2
    owner write $f +4 = ok 2
    owner get f = ok hello+1+2+3+4
  `),
  rule('processes that append at once lose nothing', `
    owner append f 4 200
    owner lstat f : size=16000
  `),
  rule('O_NOFOLLOW, O_DIRECTORY and O_PATH', `
    owner put f hello
    owner symlink f s
    owner mkdir d 0755
    owner open s RDONLY|NOFOLLOW = ELOOP
    owner open f RDONLY|DIRECTORY = ENOTDIR
    owner open s RDONLY|DIRECTORY = ENOTDIR
    owner open d RDONLY|DIRECTORY -> d
    owner open s PATH|NOFOLLOW -> p
    owner fstat $p : type=symlink
    owner read $p 1 = EBADF
    owner open f PATH -> q
    owner write $q x = EBADF
  `),
  rule('a folder opens for reading only', `
    owner mkdir d 0755
    owner open d WRONLY = EISDIR
    owner open d RDWR = EISDIR
    owner open d RDONLY|TRUNC = EISDIR
    owner open d CREAT|RDONLY 0644 = EISDIR
    owner open d RDONLY -> d
    owner read $d 10 = EISDIR
  `),
  rule('open: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EEXIST', `
    owner touch f 0644
    owner symlink a b
    owner symlink b a
    owner symlink self/x self
    owner open x RDONLY = ENOENT
    owner open x/y CREAT|RDWR 0644 = ENOENT
    owner open f/ RDONLY = ENOTDIR
    owner open f/x RDONLY = ENOTDIR
    owner open f/x CREAT|RDWR 0644 = ENOTDIR
    owner open a RDONLY = ELOOP
    owner open a CREAT|RDWR 0644 = ELOOP
    owner open self RDONLY = ELOOP
    owner open ${name255} CREAT|RDWR 0644
    owner unlink ${name255}
    owner open ${name256} CREAT|RDWR 0644 = ENAMETOOLONG
    owner open ${name256} RDONLY = ENAMETOOLONG
    owner open x/ CREAT|RDWR 0644 = EISDIR
  `),
  rule('the class of the caller decides alone: owner, else group, else others', `
    root put f hello
    root chown f 2001 3000
    root chmod f 0077
    owner open f RDONLY = EACCES
    owner open f WRONLY = EACCES
    member open f RDONLY
    other open f WRONLY
    root chmod f 0707
    owner open f RDWR
    member open f RDONLY = EACCES
    member open f WRONLY = EACCES
    other open f RDWR
    root chmod f 0770
    member open f RDWR
    other open f RDONLY = EACCES
    root chmod f 0000
    owner open f RDONLY = EACCES
    member open f RDONLY = EACCES
    other open f RDONLY = EACCES
    root open f RDWR
  `),
  rule('each of read and write is asked for', `
    owner put f hello
    owner chmod f 0444
    owner open f RDONLY
    owner open f WRONLY = EACCES
    owner open f RDWR = EACCES
    owner chmod f 0222
    owner open f RDONLY = EACCES
    owner open f RDWR = EACCES
    owner open f WRONLY
  `),
  rule('making a file needs write and search permission of the folder', `
    owner mkdir d 0755
    other open d/f CREAT|RDWR 0644 = EACCES
    owner chmod d 0200
    owner open d/f CREAT|RDWR 0644 = EACCES
    owner chmod d 0500
    owner open d/f CREAT|RDWR 0644 = EACCES
    owner chmod d 0300
    owner open d/f CREAT|RDWR 0644
    owner chmod d 0755
  `),
  rule('who creates a file may use the descriptor whatever the mode says', `
    owner open f CREAT|EXCL|RDWR 0000 -> f
    owner write $f hello = ok 5
    owner pread $f 5 0 = ok hello
    owner open f RDONLY = EACCES
    owner open g CREAT|RDWR 0444 -> g
    owner write $g hello = ok 5
    owner fsync $g
    owner close $g
    owner get g = ok hello
  `),
  rule('a descriptor keeps its rights when the folder is closed or the file moves to where its opener cannot go', `
    owner mkdir d 0755
    owner mkdir e 0700
    owner put d/f hello
    owner chmod d/f 0666
    other open d/f RDWR -> f
    owner chmod d 0700
    other pwrite $f J 0 = ok 1
    other pread $f 5 0 = ok Jello
    other fsync $f
    owner rename d/f e/g
    other pwrite $f j 0 = ok 1
    other fsync $f
    other fstat $f : size=5
    other close $f
    owner get e/g = ok jello
  `),
  rule(
    'a descriptor whose opener the file’s mode shuts out: the server asks each time, and no refused write is called saved',
    `
    owner put f hello
    owner chmod f 0666
    other open f RDWR -> f
    owner chmod f 0600
    other pwrite $f J 0 = ok 1 @solo EACCES
    other fsync $f @nfs EACCES @solo ok
    other pread $f 5 0 = ok Jello @nfs EACCES
    other open f RDONLY = EACCES
    other close $f
    owner get f = ok Jello @nfs ok hello
  `
  ),
  rule('an owner who takes its own rights away keeps its descriptor', `
    owner put f hello
    owner open f RDWR -> f
    owner chmod f 0000
    owner pwrite $f J 0 = ok 1
    owner fsync $f
    owner pread $f 5 0 = ok Jello
    owner ftruncate $f 3
    owner fstat $f : size=3
    owner close $f
  `),
  rule('reading a write-only descriptor and writing a read-only one are EBADF', `
    owner put f hello
    owner open f RDONLY -> r
    owner open f WRONLY -> w
    owner write $r x = EBADF
    owner pwrite $r x 0 = EBADF
    owner ftruncate $r 0 = EINVAL
    owner read $w 1 = EBADF
    owner close $r
    owner read 999 1 = EBADF
    owner close 999 = EBADF
    owner fsync 999 = EBADF
    owner fstat 999 = EBADF
  `),
  rule('a set-gid folder gives its group, and its set-gid bit to folders in it', `
    root mkdir d 0777
    root chown d 0 3000
    root chmod d 02777
    other touch d/f 0644
    other mkdir d/e 0755
    other mkfifo d/p 0644
    other symlink x d/s
    root lstat d/f : uid=2003 gid=3000 mode=0644
    root lstat d/e : uid=2003 gid=3000 mode=2755
    root lstat d/p : gid=3000
    root lstat d/s : gid=3000
  `),
  rule('O_TMPFILE is refused, never a hidden file', `
    owner open . TMPFILE|RDWR 0600 @nfs EOPNOTSUPP
    owner list . = ok
  `),
  rule('a fifo between two opens is the kernel’s', `
    owner mkfifo p 0644
    owner open p RDONLY|NONBLOCK -> r
    owner open p WRONLY|NONBLOCK -> w
    owner write $w hello = ok 5
    owner read $r 10 = ok hello
    owner chmod p 0600
    other open p WRONLY|NONBLOCK = EACCES
    other open p RDONLY|NONBLOCK = EACCES
    other lstat p : uid=2001
    other chmod p 0666 = EPERM
  `)
]
