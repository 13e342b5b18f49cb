/** rename(2) and renameat2(2). Owns what they answer. */
import { rule } from '../judge.ts'

const name255 = 'n'.repeat(255)
const name256 = 'n'.repeat(256)
const noReplace = 1
const exchange = 2

export const renameRules = [
  rule('rename moves files, folders, symlinks, fifos, and keeps what they are', `
    owner put f hello
    owner mkdir d 0755
    owner put d/x inside
    owner symlink f s
    owner mkfifo p 0644
    note f
    owner rename f f2
    owner rename d d2
    owner rename s s2
    owner rename p p2
    owner get f2 = ok hello
    owner get d2/x = ok inside
    owner readlink s2 = ok f
    owner lstat p2 : type=fifo
    owner list . = ok d2 f2 p2 s2
    owner rename f2 d2/f
    owner lstat f2 = ENOENT
    owner list d2 = ok f x
  `),
  rule('rename moves mtime and ctime of both folders', `
    owner mkdir a 0755
    owner mkdir b 0755
    owner touch a/f 0644
    note a
    note b
    owner rename a/f b/g
    later a mtime ctime
    later b mtime ctime
  `),
  rule('rename of a folder between folders moves its link to the parent', `
    owner mkdir a 0755
    owner mkdir b 0755
    owner mkdir a/d 0755
    owner mkdir a/d/e 0755
    owner rename a/d b/d
    owner lstat a : nlink=2
    owner lstat b : nlink=3
    owner lstat b/d/.. : nlink=3
    owner list b/d = ok e
  `),
  rule('rename replaces: file by file, empty folder by folder', `
    owner put f new
    owner put g old
    owner rename f g
    owner get g = ok new
    owner mkdir d 0755
    owner put d/x x
    owner mkdir e 0755
    owner rename d e
    owner list e = ok x
    owner list . = ok e g
  `),
  rule('rename between kinds: EISDIR, ENOTDIR, ENOTEMPTY', `
    owner touch f 0644
    owner mkdir d 0755
    owner mkdir full 0755
    owner touch full/x 0644
    owner symlink d s
    owner rename f d = EISDIR
    owner rename d f = ENOTDIR
    owner rename s d = EISDIR
    owner rename d s = ENOTDIR
    owner rename d full = ENOTEMPTY/EEXIST
    owner rename f s
    owner lstat s : type=file
  `),
  rule('rename of two names of one file does nothing', `
    owner put f hello
    owner link f g
    owner rename f g
    owner lstat f : nlink=2
    owner lstat g : nlink=2
    owner rename f f
    owner rename g g
    owner lstat f : nlink=2
    owner mkdir d 0755
    owner rename d d
  `),
  rule('a folder cannot go below itself, dot and dot-dot not at all', `
    owner mkdir d 0755
    owner mkdir d/e 0755
    owner rename d d/e/f = EINVAL
    owner rename d d/e = EINVAL
    owner rename d/. x = EBUSY/EINVAL
    owner rename d/.. x = EBUSY/EINVAL
    owner rename d/e d/. = EBUSY/EINVAL
    owner rename d/e d = ENOTEMPTY/EEXIST
  `),
  rule('rename: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG', `
    owner touch f 0644
    owner mkdir d 0755
    owner symlink a b
    owner symlink b a
    owner rename x y = ENOENT
    owner rename f x/y = ENOENT
    owner rename x/y z = ENOENT
    owner rename f/x y = ENOTDIR
    owner rename d f/x = ENOTDIR
    owner rename a/x y = ELOOP
    owner rename f a/x = ELOOP
    owner rename f ${name255}
    owner rename ${name255} f
    owner rename f ${name256} = ENAMETOOLONG
    owner rename ${name256} f = ENAMETOOLONG
    owner rename f g/ = ENOTDIR
    owner rename a c
    owner readlink c = ok b
  `),
  rule('rename needs write and search permission of both folders', `
    owner mkdir a 0755
    owner mkdir b 0755
    owner touch a/f 0666
    other mkdir o 0755
    other touch o/f 0666
    other rename a/f o/g = EACCES
    other rename o/f a/g = EACCES
    owner chmod a 0555
    owner rename a/f b/f = EACCES
    owner chmod a 0644
    owner rename a/f b/f = EACCES
    owner chmod a 0755
    owner chmod b 0555
    owner rename a/f b/f = EACCES
    owner chmod b 0755
    owner rename a/f b/f
    root rename o/f a/g
  `),
  rule('a folder of somebody else cannot be moved to another folder: its dot-dot is not ours to write', `
    root mkdir a 0777
    root mkdir b 0777
    owner mkdir a/d 0755
    other rename a/d b/d = EACCES
    other rename a/d a/e
    owner rename a/e b/d
  `),
  rule('rename over an open file leaves its bytes with who has it', `
    owner put f new
    owner put g old
    owner open g RDWR -> g
    owner rename f g
    owner get g = ok new
    owner pread $g 10 0 = ok old
    owner pwrite $g X 0 = ok 1
    owner fsync $g
    owner pread $g 10 0 = ok Xld
    owner fstat $g : nlink=0
    owner get g = ok new
    owner close $g
    owner list . = ok g
  `),
  rule('rename of an open file: the descriptor follows it', `
    owner put f hello
    owner open f RDWR -> f
    owner rename f g
    owner pwrite $f J 0 = ok 1
    owner fsync $f
    owner get g = ok Jello
    owner fstat $f : nlink=1
    owner mkdir d 0755
    owner rename g d/h
    owner pread $f 5 0 = ok Jello
  `),
  rule('a rename that fails leaves the open target as it was', `
    owner mkdir d 0755
    owner put d/g old
    owner put f new
    owner open d/g RDONLY -> g
    owner chmod d 0555
    owner rename f d/g = EACCES
    owner get d/g = ok old
    owner chmod d 0755
    owner list d = ok g
    owner fstat $g : nlink=1
    owner rename x d/g = ENOENT
    owner get d/g = ok old
    owner list d = ok g
    owner mkdir e 0755
    owner rename e d/g = ENOTDIR
    owner get d/g = ok old
    owner list d = ok g
  `),
  rule('a name written before its file is renamed over another is whole', `
    owner open f CREAT|WRONLY 0644 -> f
    owner write $f {300000*a} = ok 300000
    owner put g old
    owner rename f g
    owner lstat g : size=300000
    owner close $f
    owner lstat g : size=300000
  `),
  rule('renameat2 flags are done, or refused and nothing changed', `
    owner put f F
    owner put g G
    owner renameflags f g ${noReplace} = EEXIST
    owner get f = ok F
    owner get g = ok G
    owner renameflags f h ${noReplace} @nfs EINVAL
    owner renameflags g g2 ${exchange} = ENOENT
    owner get g = ok G
    owner touch h2 0644
    owner renameflags g h2 ${exchange} @nfs EINVAL
  `)
]
