/** mkfifo(3) and mknod(2). Owns what they answer. */
import { rule } from '../judge.ts'

const name256 = 'n'.repeat(256)

export const nodeRules = [
  rule('mkfifo and mknod make what is asked, with mode, umask and owner', `
    owner umask 027
    owner mkfifo p 0666
    owner mknod k socket 0777
    owner mknod f file 0666
    owner umask 0
    owner lstat p : type=fifo mode=0640 uid=2001 gid=2001 nlink=1
    owner lstat k : type=socket mode=0750
    owner lstat f : type=file mode=0640 size=0
  `),
  rule('devices are root’s to make, keep their number, and are dead on this mount', `
    root mknod c character 0666 1 3
    root mknod b block 0600 7 300
    root lstat c : type=character rdev=1,3
    root lstat b : type=block rdev=7,300
    other mknod d character 0666 1 3 = EPERM
    owner mknod d block 0666 1 3 = EPERM
    other open c RDWR @nfs EACCES
    root open c RDWR @nfs EACCES
    root unlink c
    root unlink b
  `),
  rule('mkfifo and mknod: EEXIST, ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES', `
    owner touch f 0644
    owner symlink nowhere s
    owner symlink a b
    owner symlink b a
    owner mkdir d 0555
    owner mkfifo f 0644 = EEXIST
    owner mkfifo s 0644 = EEXIST
    owner mkfifo d 0644 = EEXIST
    owner mknod f file 0644 = EEXIST
    owner mknod s file 0644 = EEXIST
    owner mkfifo x/p 0644 = ENOENT
    owner mkfifo f/p 0644 = ENOTDIR
    owner mkfifo a/p 0644 = ELOOP
    owner mkfifo ${name256} 0644 = ENAMETOOLONG
    owner mkfifo d/p 0644 = EACCES
    other mkfifo d/p 0644 = EACCES
    other mknod d/f file 0644 = EACCES
  `),
  rule('mkfifo moves mtime and ctime of the folder', `
    owner mkdir d 0755
    note d
    owner mkfifo d/p 0644
    later d mtime ctime
  `)
]
