/** utimensat(2) and the times that other calls move. Owns who may set them and what they become. */
import { rule } from '../judge.ts'

const name256 = 'n'.repeat(256)

export const timeRules = [
  rule('both times are set to the nanosecond, ctime moves by itself', `
    owner touch f 0644
    note f
    owner utimens f 1000000000.123456789 1100000000.987654321
    owner lstat f : atime=1000000000.123456789 mtime=1100000000.987654321
    later f ctime
    owner open f RDWR -> f
    owner futimens $f 1200000000.000000001 1300000000.000000002
    owner lstat f : atime=1200000000.000000001 mtime=1300000000.000000002
    owner mkdir d 0755
    owner utimens d 1.000000005 2.000000006
    owner lstat d : atime=1.000000005 mtime=2.000000006
  `),
  rule('UTIME_OMIT leaves one, UTIME_NOW sets the clock', `
    owner touch f 0644
    owner utimens f 1000000000 1000000000
    owner utimens f omit 1100000000.5
    owner lstat f : atime=1000000000.000000000 mtime=1100000000.000000005
    owner utimens f 1200000000 omit
    owner lstat f : atime=1200000000.000000000 mtime=1100000000.000000005
    note f
    owner utimens f now omit
    later f atime
    kept f mtime
    note f
    owner utimens f omit now
    later f mtime
    kept f atime
    note f
    owner utimens f omit omit
    kept f atime mtime ctime
    owner utimens f 5 6
    note f
    owner utimesnull f
    later f atime mtime ctime
  `),
  rule('setting given times is the owner’s and root’s; "now" is anybody’s who may write', `
    owner touch f 0666
    other utimens f 1 2 = EPERM
    other utimens f now omit = EPERM
    other utimens f omit now = EPERM
    other utimens f now now
    other utimesnull f
    other utimens f omit omit
    owner chmod f 0444
    other utimesnull f = EACCES
    other utimens f now now = EACCES
    owner utimesnull f
    owner utimens f 1 2
    root utimens f 3 4
    root lstat f : atime=3.000000000 mtime=4.000000000
  `),
  rule('setting a symlink’s own times does not reach its target', `
    owner touch f 0644
    owner symlink f s
    owner utimens f 10 20
    owner lutimens s 1000 2000
    owner lstat s : type=symlink
    owner lstat f : atime=10.000000000 mtime=20.000000000
    owner utimens s 30 40
    owner lstat f : atime=30.000000000 mtime=40.000000000
  `),
  rule('utimensat: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL', `
    owner touch f 0644
    owner symlink a b
    owner symlink b a
    owner utimens x 1 2 = ENOENT
    owner utimens f/x 1 2 = ENOTDIR
    owner utimens a 1 2 = ELOOP
    owner utimens ${name256} 1 2 = ENAMETOOLONG
    owner utimens f 1.1000000001 2 = EINVAL
    owner utimens f 1 2.-5 = EINVAL
  `),
  rule('seconds between 2038 and 2106 are kept; what NFSv3 cannot carry is refused, not bent', `
    owner touch f 0644
    owner utimens f 2147483648 4294967295
    owner lstat f : atime=2147483648.000000000 mtime=4294967295.000000000
    note f
    owner utimens f 4294967296 4294967296 @nfs EINVAL
    owner utimens f -1 -1 @nfs EINVAL
  `),
  rule('write moves mtime and ctime, a write of nothing leaves them', `
    owner touch f 0644
    owner open f WRONLY -> f
    note f
    owner write $f x = ok 1
    later f mtime ctime
    note f
    owner write $f - = ok 0
    kept f mtime ctime
    note f
    owner pwrite $f y 100 = ok 1
    owner close $f
    later f mtime ctime
  `),
  rule('mtime does not move after the stat that showed a write, also not at close', `
    owner open f CREAT|WRONLY 0644 -> f
    owner write $f {70000*x} = ok 70000
    note f
    owner fsync $f
    owner close $f
    kept f mtime size
  `),
  rule('times set after a write stay after close', `
    owner open f CREAT|WRONLY 0644 -> f
    owner write $f hello = ok 5
    owner futimens $f 1000 2000
    owner lstat f : atime=1000.000000000 mtime=2000.000000000
    owner close $f
    owner lstat f : mtime=2000.000000000
  `),
  rule('truncate moves mtime and ctime, also to the same size; ftruncate likewise', `
    owner put f hello
    note f
    owner truncate f 3
    later f mtime ctime
    note f
    owner truncate f 3
    later f mtime ctime @solo -
    owner open f RDWR -> f
    note f
    owner ftruncate $f 10
    later f mtime ctime
  `),
  rule('reading and walking move no mtime or ctime', `
    owner mkdir d 0755
    owner put d/f hello
    note d
    note d/f
    owner get d/f = ok hello
    owner list d = ok f
    owner access d/f r
    owner lstat d/f
    kept d mtime ctime
    kept d/f mtime ctime
  `),
  rule('what fails moves nothing', `
    owner put f hello
    note f
    other truncate f 0 = EACCES
    other open f WRONLY|TRUNC = EACCES
    other unlink f/x = ENOTDIR
    other chown f 2003 2003 = EPERM
    other link x f = ENOENT
    kept f mtime ctime atime size
  `),
  rule('an mmap write moves mtime and ctime by the time of msync', `
    owner put f {5000*a}
    owner open f RDWR -> f
    note f
    owner mapwrite $f 10 X sync
    later f mtime ctime
    kept f size
  `)
]
