/** link(2), symlink(2), readlink(2). Owns what they answer. */
import { rule } from '../judge.ts'

const name255 = 'n'.repeat(255)
const name256 = 'n'.repeat(256)
const target1023 = 't/'.repeat(511) + 't'
const target4095 = 't/'.repeat(2047) + 't'

export const linkRules = [
  rule('link gives another name to the same file', `
    owner put f hello
    owner link f g
    owner lstat f : nlink=2
    owner lstat g : nlink=2 size=5
    owner put g world
    owner get f = ok world
    owner chmod g 0600
    owner lstat f : mode=0600
    owner unlink f
    owner lstat g : nlink=1
    owner get g = ok world
  `),
  rule('link moves ctime of the file and mtime and ctime of the folder', `
    owner mkdir d 0755
    owner touch f 0644
    note d
    note f
    owner link f d/g
    later f ctime
    kept f mtime
    later d mtime ctime
    note f
    owner unlink d/g
    later f ctime
    root lstat f : nlink=1
  `),
  rule('link: EEXIST, ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EPERM for folders', `
    owner touch f 0644
    owner touch g 0644
    owner mkdir d 0755
    owner symlink a b
    owner symlink b a
    owner symlink nowhere s
    owner link f g = EEXIST
    owner link f f = EEXIST
    owner link f d = EEXIST
    owner link f s = EEXIST
    owner link x y = ENOENT
    owner link f x/y = ENOENT
    owner link g/x y = ENOTDIR
    owner link f g/x = ENOTDIR
    owner link a/x y = ELOOP
    owner link f a/x = ELOOP
    owner link d e = EPERM
    root link d e = EPERM
    owner link f ${name255}
    owner unlink ${name255}
    owner link f ${name256} = ENAMETOOLONG
    owner link ${name256} y = ENAMETOOLONG
    owner lstat f : nlink=1
  `),
  rule('link needs write and search permission of the folder', `
    owner mkdir d 0755
    owner touch f 0666
    owner touch d/h 0666
    other link f d/g = EACCES
    other link d/h g
    owner chmod d 0644
    owner link f d/g = EACCES
    other link d/h i = EACCES
    owner chmod d 0755
    root link f d/g
    owner lstat f : nlink=2
  `),
  rule('link of a symlink is one more symlink, AT_SYMLINK_FOLLOW links its target', `
    owner put f hello
    owner symlink f s
    owner link s s2
    owner lstat s2 : type=symlink nlink=2
    owner linkfollow s f2
    owner lstat f2 : type=file nlink=2
    owner symlink nowhere t
    owner linkfollow t f3 = ENOENT
    owner readlink s2 = ok f
  `),
  rule('link of fifo and socket', `
    owner mkfifo p 0644
    owner link p q
    owner lstat q : type=fifo nlink=2
    owner mknod k socket 0644
    owner link k l
    owner lstat l : type=socket nlink=2
  `),
  rule('a symlink is 0777, as long as its target, and keeps its bytes', `
    owner umask 077
    owner symlink hello/world s
    owner umask 0
    owner lstat s : type=symlink mode=0777 size=11 uid=2001 gid=2001 nlink=1
    owner readlink s = ok hello/world
    owner symlink %ff%0a%25%20 t
    owner readlink t = ok %ff%0a%25%20
    owner symlink ${target1023} u
    owner readlink u = ok ${target1023}
    owner lstat u : size=1023
  `),
  rule('a symlink as long as PATH_MAX allows', `
    owner symlink ${target4095} s
    owner readlink s = ok ${target4095}
    owner symlink ${target4095}/x t = ENAMETOOLONG
  `),
  rule('symlink: EEXIST, ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES', `
    owner touch f 0644
    owner mkdir d 0555
    owner symlink a b
    owner symlink b a
    owner symlink x f = EEXIST
    owner symlink x d = EEXIST
    owner symlink x a = EEXIST
    owner symlink - e = ENOENT
    owner symlink x y/z = ENOENT
    owner symlink x f/z = ENOTDIR
    owner symlink x a/z = ELOOP
    owner symlink x ${name256} = ENAMETOOLONG
    owner symlink x d/s = EACCES
    other symlink x d/s = EACCES
    root symlink x d/s
  `),
  rule('readlink: EINVAL for what is no symlink, and the path errors', `
    owner touch f 0644
    owner mkdir d 0755
    owner readlink f = EINVAL
    owner readlink d = EINVAL
    owner readlink x = ENOENT
    owner readlink f/x = ENOTDIR
    owner readlink ${name256} = ENAMETOOLONG
    owner mkdir e 0600
    owner readlink e/x = EACCES
  `),
  rule('a path walks through symlinks, also up and absolute, and 40 of them are the end', `
    owner mkdir d 0755
    owner put d/f hello
    owner symlink d s
    owner symlink ../d/f d/t
    owner get s/f = ok hello
    owner get s/t = ok hello
    owner symlink /dev/null n
    owner stat n : type=character
    owner symlink d/f l0
    ${Array.from({ length: 40 }, (_, index) => `owner symlink l${index} l${index + 1}`).join('\n')}
    owner get l39 = ok hello
    owner get l40 = ELOOP
  `),
  rule('symlink moves mtime and ctime of the folder', `
    owner mkdir d 0755
    note d
    owner symlink x d/s
    later d mtime ctime
  `)
]
