/** truncate(2), read(2), write(2), mmap(2), lseek(2), fsync(2). Owns which bytes are where. */
import { rule } from '../judge.ts'

const fiveGiB = 5 * 1024 ** 3

export const dataRules = [
  rule('truncate cuts and stretches with zeros, and needs write permission', `
    owner put f hello
    owner truncate f 3
    owner get f = ok hel
    owner truncate f 12
    owner get f = ok hel{9*%00}
    owner truncate f 0
    owner lstat f : size=0
    other truncate f 5 = EACCES
    owner chmod f 0444
    owner truncate f 5 = EACCES
    root truncate f 5
    owner mkdir d 0755
    owner truncate d 0 = EISDIR
    owner truncate x 0 = ENOENT
    owner truncate f -1 = EINVAL
    owner truncate f/x 0 = ENOTDIR
    owner mkfifo p 0644
    owner truncate p 0 = EINVAL
  `),
  rule('ftruncate while writes are on their way', `
    owner open f CREAT|RDWR 0644 -> f
    owner write $f {3000000*a} = ok 3000000
    owner ftruncate $f 1000
    owner fstat $f : size=1000
    owner ftruncate $f 2000
    owner pread $f 2000 0 = ok {1000*a}{1000*%00}
    owner pwrite $f {10*b} 5000 = ok 10
    owner ftruncate $f 4000
    owner ftruncate $f 6000
    owner pread $f 6000 0 = ok {1000*a}{5000*%00}
    owner close $f
    owner get f = ok {1000*a}{5000*%00}
  `),
  rule('holes read as zeros, before and after they are on the server', `
    owner open f CREAT|RDWR 0644 -> f
    owner pwrite $f x 100000 = ok 1
    owner pread $f 20 99990 = ok {10*%00}x
    owner pread $f 10 0 = ok {10*%00}
    owner fsync $f
    owner pread $f 20 99990 = ok {10*%00}x
    owner pwrite $f y 50000 = ok 1
    owner pread $f 3 49999 = ok %00y%00
    owner pread $f 10 100001 = ok -
    owner pread $f 10 900000 = ok -
    owner fstat $f : size=100001
  `),
  rule('offsets beyond 4 GiB are not cut to 32 bits', `
    owner open f CREAT|RDWR 0644 -> f
    owner pwrite $f far ${fiveGiB} = ok 3
    owner fstat $f : size=${fiveGiB + 3}
    owner pread $f 4 ${fiveGiB - 1} = ok %00far
    owner pread $f 3 ${fiveGiB - 4 * 1024 ** 3} = ok %00%00%00
    owner fsync $f
    owner pread $f 4 ${fiveGiB - 1} = ok %00far
    owner ftruncate $f ${fiveGiB + 1}
    owner lseek $f 0 end = ok ${fiveGiB + 1}
    owner pread $f 10 ${fiveGiB} = ok f
    owner close $f
    owner lstat f : size=${fiveGiB + 1}
  `),
  rule('a file larger than the server can have is EFBIG', `
    owner open f CREAT|RDWR 0644 -> f
    owner pwrite $f x 9223372036854775806 = EFBIG @solo -
    owner ftruncate $f 9223372036854775806 = EFBIG
    owner pwrite $f x 18000000000000 = EFBIG @ganesha ok
    owner fsync $f @ganesha EFBIG
    owner ftruncate $f 18000000000000 = EFBIG
    owner pwrite $f x ${2n ** 60n} = EFBIG @solo -
    owner ftruncate $f ${2n ** 60n} = EFBIG
    owner truncate f ${2n ** 60n} = EFBIG
    owner pread $f 10 ${2n ** 60n} = ok - @solo -
    owner fstat $f : size=0 @solo -
  `),
  rule('read and write move the offset, pread and pwrite do not', `
    owner open f CREAT|RDWR 0644 -> f
    owner write $f hello = ok 5
    owner pwrite $f J 0 = ok 1
    owner lseek $f 0 cur = ok 5
    owner pread $f 2 0 = ok Je
    owner lseek $f 0 cur = ok 5
    owner lseek $f -2 end = ok 3
    owner read $f 10 = ok lo
    owner read $f 10 = ok -
    owner lseek $f -1 set = EINVAL
    owner lseek $f 100 set = ok 100
    owner read $f 1 = ok -
    owner write $f x = ok 1
    owner lstat f : size=101
  `),
  rule('two descriptors of one file see each other’s writes at once', `
    owner open f CREAT|RDWR 0666 -> a
    other open f RDWR -> b
    owner write $a hello = ok 5
    other pread $b 10 0 = ok hello
    other pwrite $b J 0 = ok 1
    owner pread $a 10 0 = ok Jello
    owner ftruncate $a 2
    other pread $b 10 0 = ok Je
    other fstat $b : size=2
  `),
  rule('large writes come back, and over them small ones', `
    owner open f CREAT|RDWR 0644 -> f
    owner write $f {5000000*a} = ok 5000000
    owner pwrite $f {3*b} 1048575 = ok 3
    owner pwrite $f {8*c} 4999996 = ok 8
    owner pread $f 7 1048573 = ok aabbbaa
    owner close $f
    owner open f RDONLY -> g
    owner pread $g 7 1048573 = ok aabbbaa
    owner pread $g 20 4999994 = ok aa{8*c}
    owner lstat f : size=5000004
  `),
  rule('mmap reads what was written, and writes what is read', `
    owner open f CREAT|RDWR 0644 -> f
    owner write $f {10000*a} = ok 10000
    owner mapread $f 9998 2 = ok aa
    owner pwrite $f bb 4999 = ok 2
    owner mapread $f 4998 4 = ok abba
    owner mapwrite $f 0 hello sync
    owner pread $f 6 0 = ok helloa
    owner mapwrite $f 6000 world later
    owner pread $f 7 5999 = ok aworlda
    owner fsync $f
    owner close $f
    owner open f RDONLY -> g
    owner pread $g 7 5999 = ok aworlda
    owner fstat $g : size=10000
  `),
  rule('mmap after the descriptor of an unlinked file is stretched', `
    owner open f CREAT|RDWR 0644 -> f
    owner unlink f
    owner ftruncate $f 8192
    owner mapwrite $f 4096 hello sync
    owner pread $f 6 4095 = ok %00hello
    owner fstat $f : size=8192 nlink=0
  `),
  rule('O_DIRECT and the page cache see one file', `
    owner open f CREAT|RDWR 0644 -> c
    owner open f RDWR|DIRECT -> d
    owner write $c {8192*a} = ok 8192
    owner pread $d 4096 4096 = ok {4096*a}
    owner pwrite $d {4096*b} 4096 = ok 4096
    owner pread $c 4 4094 = ok aabb
    owner pwrite $c cc 4095 = ok 2
    owner pread $d 4096 4096 = ok c{4095*b}
    owner pwrite $d {4096*e} 8192 = ok 4096
    owner fstat $c : size=12288
    owner pread $c 10 12284 = ok eeee
    owner close $d
    owner close $c
    owner lstat f : size=12288
  `),
  rule('O_SYNC and O_DSYNC write the same bytes', `
    owner open f CREAT|RDWR|SYNC 0644 -> s
    owner open f RDWR|DSYNC -> d
    owner write $s {2000000*a} = ok 2000000
    owner pwrite $d b 1000000 = ok 1
    owner pread $s 3 999999 = ok aba
    owner fdatasync $s
  `),
  rule('fsync and fdatasync of file and folder', `
    owner mkdir d 0755
    owner open d RDONLY|DIRECTORY -> d
    owner open d/f CREAT|WRONLY 0644 -> f
    owner write $f hello = ok 5
    owner fsync $f
    owner fdatasync $f
    owner fsync $d
    owner open d/f RDONLY -> r
    owner fsync $r
  `),
  rule('bytes cut off by another descriptor do not come back', `
    owner open f CREAT|RDWR 0644 -> a
    owner write $a {100000*a} = ok 100000
    owner open f WRONLY|TRUNC -> b
    owner fstat $a : size=0
    owner pread $a 10 0 = ok -
    owner write $a z = ok 1
    owner pread $a 10 99990 = ok {10*%00}
    owner close $b
    owner close $a
    owner lstat f : size=100001
  `),
  rule('what NFSv3 has no call for is refused', `
    owner open f CREAT|RDWR 0644 -> f
    owner write $f {10000*a} = ok 10000
    owner fallocate $f 0 0 100000 @nfs EOPNOTSUPP
    owner fallocate $f 3 0 4096 @nfs EOPNOTSUPP
    owner fstat $f : size=100000 @nfs size=10000
    owner setxattr f user.x @nfs EOPNOTSUPP
    owner getxattr f user.x = ok 5 @nfs EOPNOTSUPP
    owner listxattr f @nfs EOPNOTSUPP
  `),
  rule('seeking data and holes, and copying ranges, work without a call of their own', `
    owner open f CREAT|RDWR 0644 -> f
    owner write $f {10000*a} = ok 10000
    owner seekdata $f 0 data = ok 0
    owner seekdata $f 0 hole = ok 10000
    owner seekdata $f 10000 data = ENXIO
    owner open g CREAT|RDWR 0644 -> g
    owner copyrange $f 1000 $g 0 5000 = ok 5000
    owner pread $g 6000 0 = ok {5000*a}
    owner copyrange $f 0 $f 20000 10000 = ok 10000
    owner fstat $f : size=30000
    owner pread $f 12000 15000 = ok {5000*%00}{7000*a}
  `),
  rule('reopening a descriptor through /proc', `
    owner put f hello
    owner open f RDONLY -> r
    owner reopen $r RDWR -> w
    owner pwrite $w J 0 = ok 1
    owner pread $r 5 0 = ok Jello
    owner open f PATH -> p
    owner reopen $p RDONLY -> q
    owner pread $q 5 0 = ok Jello
    other reopen 999 RDONLY = ENOENT
  `),
  rule('flock is held against other processes', `
    owner open f CREAT|RDWR 0666 -> a
    other open f RDWR -> b
    owner flock $a
    other flock $b = EAGAIN
    owner flock $a un
    other flock $b
  `)
]
