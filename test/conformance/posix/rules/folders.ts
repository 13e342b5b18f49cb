/** mkdir(2), rmdir(2), getdents(2) and statvfs(3). Owns what they answer. */
import { rule } from '../judge.ts'

const name255 = 'n'.repeat(255)
const name256 = 'n'.repeat(256)
const longPath = `${'d/'.repeat(2047)}dd`

export const folderRules = [
  rule('mkdir makes an empty folder with two links of the caller’s user and group', `
    owner mkdir d 0751
    root lstat d : type=folder mode=0751 nlink=2 uid=2001 gid=2001
    owner list d = ok
  `),
  rule('mkdir obeys the umask, and takes no set-id bits from nowhere', `
    owner umask 027
    owner mkdir d 0777
    owner umask 0
    root lstat d : mode=0750
    owner mkdir s 01777
    root lstat s : mode=1777
  `),
  rule('mkdir adds a link and moves mtime and ctime of the parent', `
    root mkdir p 0777
    note p
    owner mkdir p/d 0755
    later p mtime ctime
    root lstat p : nlink=3
    note p
    owner rmdir p/d
    later p mtime ctime
    root lstat p : nlink=2
  `),
  rule('a failed mkdir leaves the parent’s times alone', `
    owner mkdir p 0755
    owner mkdir p/d 0755
    note p
    owner mkdir p/d 0755 = EEXIST
    other mkdir p/e 0755 = EACCES
    kept p mtime ctime nlink
  `),
  rule('mkdir over anything that exists is EEXIST, a dangling symlink too', `
    owner touch f 0644
    owner symlink nowhere s
    owner mkfifo p 0644
    owner mkdir d 0755
    owner mkdir f 0755 = EEXIST
    owner mkdir s 0755 = EEXIST
    owner mkdir p 0755 = EEXIST
    owner mkdir d 0755 = EEXIST
    owner mkdir . 0755 = EEXIST
    owner mkdir .. 0755 = EEXIST
    owner lstat nowhere = ENOENT
  `),
  rule('mkdir and rmdir: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG', `
    owner touch f 0644
    owner symlink a b
    owner symlink b a
    owner mkdir x/y 0755 = ENOENT
    owner mkdir - 0755 = ENOENT
    owner mkdir f/x 0755 = ENOTDIR
    owner mkdir a/x 0755 = ELOOP
    owner mkdir ${name255} 0755
    owner rmdir ${name255}
    owner mkdir ${name256} 0755 = ENAMETOOLONG
    owner mkdir ${longPath} 0755 = ENAMETOOLONG
    owner rmdir x = ENOENT
    owner rmdir x/y = ENOENT
    owner rmdir f = ENOTDIR
    owner rmdir f/x = ENOTDIR
    owner rmdir a = ENOTDIR
    owner rmdir a/x = ELOOP
    owner rmdir ${name256} = ENAMETOOLONG
    owner rmdir ${longPath} = ENAMETOOLONG
  `),
  rule('rmdir refuses what is not empty, dot and dot-dot', `
    owner mkdir d 0755
    owner touch d/f 0644
    owner rmdir d = ENOTEMPTY
    owner rmdir d/. = EINVAL
    owner rmdir d/.. = ENOTEMPTY
    owner unlink d/f
    owner symlink x d/s
    owner rmdir d = ENOTEMPTY
    owner unlink d/s
    owner rmdir d
    owner lstat d = ENOENT
  `),
  rule('rmdir through a symlink is ENOTDIR, also with a slash', `
    owner mkdir d 0755
    owner symlink d s
    owner rmdir s = ENOTDIR
    owner rmdir s/ = ENOTDIR
    owner rmdir d/
  `),
  rule('mkdir and rmdir need write and search permission of the parent', `
    owner mkdir d 0755
    owner mkdir d/e 0755
    other mkdir d/x 0755 = EACCES
    other rmdir d/e = EACCES
    owner chmod d 0600
    owner mkdir d/x 0755 = EACCES
    owner rmdir d/e = EACCES
    owner chmod d 0555
    owner mkdir d/x 0755 = EACCES
    owner rmdir d/e = EACCES
    root mkdir d/x 0755
    root rmdir d/x
    owner chmod d 0755
  `),
  rule('a removed folder that is somebody’s cwd or open stays, empty, and takes nothing new', `
    owner mkdir d 0755
    owner open d RDONLY|DIRECTORY -> d
    owner rmdir d
    owner fstat $d : type=folder nlink=0
    owner lstat d = ENOENT
    owner mkdir d 0755
    owner list d = ok
  `),
  rule('names keep every byte: newline, space, percent, 0x80 to 0xff, a leading dot or dash', `
    owner touch a%0ab 0644
    owner touch %20 0644
    owner touch %25s 0644
    owner touch %80%fe%ff%c3%28 0644
    owner touch .hidden 0644
    owner touch -x 0644
    owner mkdir %22%27%2a 0755
    owner lstat a%0ab : type=file
    owner lstat %80%fe%ff%c3%28 : type=file
    owner list . = ok %20 "'* %25s -x .hidden a%0ab %80%fe%ff%c3(
    owner rename a%0ab b%0a
    owner unlink b%0a
    owner lstat a%0ab = ENOENT
  `),
  rule('a listing has every name once, and telldir, seekdir and rewinddir agree', `
    owner mkdir d 0755
    owner many d 700
    owner count d = ok 702 repeated 0
    owner seekdir d 0 = ok 702
    owner seekdir d 1 = ok 702
    owner seekdir d 350 = ok 702
    owner seekdir d 702 = ok 702
  `),
  rule('removing while listing removes all', `
    owner mkdir d 0755
    owner many d 2500
    owner empty d = ok 2500
    owner count d = ok 2 repeated 0
    owner rmdir d
  `),
  rule('an open listing needs read permission, walking needs search permission', `
    owner mkdir d 0711
    owner touch d/f 0644
    owner mkdir e 0744
    owner touch e/f 0644
    other list d = EACCES
    other lstat d/f : type=file
    other list e = ok f
    other lstat e/f = EACCES
    root list d = ok f
  `),
  rule('a path deeper than PATH_MAX can be walked step by step', `
    owner deep ${'p'.repeat(200)} 25 = ok longer
  `),
  rule('statvfs tells the longest name, and one volume whoever asks', `
    owner statfs . : namemax=255
    owner touch f 0644
    other statfs f : namemax=255
    owner statfs x = ENOENT
    owner statfs f/x = ENOTDIR
  `)
]
