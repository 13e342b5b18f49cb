/** unlink(2), also of what is open. Owns what it answers. */
import { rule } from '../judge.ts'

const name256 = 'n'.repeat(256)

export const unlinkRules = [
  rule('unlink takes a name of any kind but a folder', `
    owner touch f 0644
    owner symlink f s
    owner mkfifo p 0644
    owner mknod k socket 0644
    owner mkdir d 0755
    owner unlink s
    owner unlink f
    owner unlink p
    owner unlink k
    owner unlink d = EISDIR
    root unlink d = EISDIR
    owner list . = ok d
  `),
  rule('unlink moves ctime of what stays and mtime and ctime of the folder', `
    owner mkdir d 0755
    owner touch d/f 0644
    owner link d/f g
    note d
    note g
    owner unlink d/f
    later d mtime ctime
    later g ctime
    kept g mtime
  `),
  rule('unlink: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG', `
    owner touch f 0644
    owner symlink a b
    owner symlink b a
    owner unlink x = ENOENT
    owner unlink x/y = ENOENT
    owner unlink f/x = ENOTDIR
    owner unlink f/ = ENOTDIR
    owner unlink a/x = ELOOP
    owner unlink ${name256} = ENAMETOOLONG
    owner unlink a
    owner unlink b
  `),
  rule('unlink asks the folder, not the file', `
    owner mkdir d 0755
    owner touch d/f 0666
    other unlink d/f = EACCES
    owner chmod d 0644
    owner unlink d/f = EACCES
    owner chmod d 0555
    owner unlink d/f = EACCES
    owner chmod d 0777
    root put d/g x
    root chmod d/g 0000
    other unlink d/g
    other unlink d/f
  `),
  rule('in a sticky folder only the owner of file or folder removes and renames', `
    owner mkdir d 0755
    owner chmod d 01777
    member touch d/m 0666
    other touch d/o 0666
    other mkdir d/od 0777
    other unlink d/m = EPERM
    member unlink d/o = EPERM
    member rmdir d/od = EPERM
    member rename d/o d/x = EPERM
    member rename d/m d/o = EPERM
    member rename d/o y = EPERM
    member rename d/od d/xd = EPERM
    member unlink d/m
    other rename d/o d/p
    owner unlink d/p
    owner rmdir d/od
    member touch d/m 0666
    root unlink d/m
  `),
  rule('an open file that is unlinked is read, written, stretched and stat’ed until it is closed', `
    owner put f hello
    owner open f RDWR -> f
    owner unlink f
    owner lstat f = ENOENT
    owner fstat $f : nlink=0 size=5
    owner pread $f 5 0 = ok hello
    owner pwrite $f {5000*x} 5 = ok 5000
    owner pread $f 8 0 = ok helloxxx
    owner ftruncate $f 3
    owner fstat $f : size=3
    owner fchmod $f 0600
    owner fstat $f : mode=0600
    owner fsync $f
    owner pread $f 10 0 = ok hel
    owner open f CREAT|EXCL|RDWR 0644 -> g
    owner pread $g 10 0 = ok -
    owner close $f
    owner close $g
    owner list . = ok f
  `),
  rule('an open file with another name keeps it when one goes', `
    owner put f hello
    owner link f g
    owner open f RDWR -> f
    owner unlink f
    owner fstat $f : nlink=1
    owner pwrite $f J 0 = ok 1
    owner fsync $f
    owner get g = ok Jello
    owner list . = ok g
    owner unlink g
    owner fstat $f : nlink=0
    owner pread $f 5 0 = ok Jello
  `),
  rule('two descriptors of different users on an unlinked file', `
    owner put f hello
    owner chmod f 0644
    owner open f RDWR -> w
    other open f RDONLY -> r
    owner unlink f
    owner pwrite $w J 0 = ok 1
    other pread $r 5 0 = ok Jello
    owner close $w
    other pread $r 5 0 = ok Jello
    other close $r
    owner list . = ok
  `),
  rule('a folder is empty for rmdir when its unlinked files are closed', `
    owner mkdir d 0755
    owner put d/f hello
    owner open d/f RDONLY -> f
    owner unlink d/f
    owner close $f
    owner rmdir d
  `),
  rule('who may not remove a file that is open cannot', `
    owner mkdir d 0755
    owner put d/f hello
    other open d/f RDONLY -> f
    other unlink d/f = EACCES
    owner lstat d/f : nlink=1
    owner list d = ok f
  `),
  rule('a sticky folder protects an open file too', `
    owner mkdir d 0755
    owner chmod d 01777
    member put d/m hello
    member chmod d/m 0666
    other open d/m RDWR -> f
    other unlink d/m = EPERM
    root lstat d/m : nlink=1
    owner list d = ok m
  `)
]
