/** chmod(2), chown(2), access(2) and umask(2). Owns who may do what. */
import { rule } from '../judge.ts'

const name256 = 'n'.repeat(256)
const same = 4294967295

export const permissionRules = [
  rule('chmod sets all twelve bits for the owner and for root', `
    owner touch f 0644
    ${[0o000, 0o111, 0o222, 0o444, 0o777, 0o700, 0o070, 0o007].map((mode) => `owner chmod f 0${mode.toString(8).padStart(3, '0')}\nowner lstat f : mode=0${mode.toString(8).padStart(3, '0')}`).join('\n')}
    root chmod f 07777
    root lstat f : mode=7777
    owner mkdir d 0755
    owner chmod d 01777
    owner lstat d : mode=1777
    owner open f RDONLY -> f
    owner fchmod $f 0640
    owner lstat f : mode=0640
  `),
  rule('chmod by anybody else is EPERM', `
    owner touch f 0666
    owner mkdir d 0777
    other chmod f 0777 = EPERM
    member chmod f 0777 = EPERM
    other chmod d 0777 = EPERM
    other open f RDWR -> f
    other fchmod $f 0777 = EPERM
    owner lstat f : mode=0666
  `),
  rule('chmod moves ctime and nothing else, and a failed one not even that', `
    owner put f hello
    note f
    owner chmod f 0600
    later f ctime
    kept f mtime size atime
    note f
    other chmod f 0666 = EPERM
    kept f ctime mode
  `),
  rule('chmod follows symlinks', `
    owner touch f 0644
    owner symlink f s
    owner chmod s 0600
    owner lstat f : mode=0600
    owner lstat s : mode=0777
    owner symlink x t
    owner chmod t 0600 = ENOENT
  `),
  rule('chmod, chown: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES', `
    owner touch f 0644
    owner symlink a b
    owner symlink b a
    owner mkdir d 0755
    owner touch d/f 0644
    owner chmod d 0600
    ${['chmod %s 0644', 'chown %s 2001 2001'].flatMap((call) => [
      ['x', 'ENOENT'], ['x/y', 'ENOENT'], ['f/x', 'ENOTDIR'], ['a', 'ELOOP'], ['a/x', 'ELOOP'], [name256, 'ENAMETOOLONG'], ['d/f', 'EACCES']
    ].map(([file = '', errno = '']) => `owner ${call.replace('%s', file)} = ${errno}`)).join('\n')}
  `),
  rule('set-gid is cleared by a chmod of an owner outside the group', `
    root put f x
    root chown f 2001 2500
    owner chmod f 02755
    owner lstat f : mode=0755
    root chown f 2001 3000
    owner chmod f 02755
    owner lstat f : mode=2755
    root chmod f 02755
    root lstat f : mode=2755
  `),
  rule('chown is root’s; an owner may give a group of its own', `
    owner touch f 0644
    owner chown f 2003 ${same} = EPERM
    owner chown f 2001 2500 = EPERM
    owner chown f ${same} 3000
    owner lstat f : uid=2001 gid=3000
    owner chown f 2001 2001
    owner lstat f : gid=2001
    owner chown f ${same} ${same}
    other chown f ${same} 2003 = EPERM
    member chown f ${same} 3000 = EPERM
    root chown f 2003 2500
    root lstat f : uid=2003 gid=2500
    owner chown f 2001 2001 = EPERM
  `),
  rule('chown moves ctime only; lchown changes the symlink itself', `
    owner touch f 0644
    owner symlink f s
    note f
    root lchown s 2003 2003
    root lstat s : uid=2003 gid=2003
    kept f ctime uid
    root chown s 2002 2002
    root lstat f : uid=2002 gid=2002
    later f ctime
    kept f mtime
    root open f RDONLY -> f
    root fchown $f 2001 3000
    root lstat f : uid=2001 gid=3000
  `),
  rule('rights follow the new owner and group at once', `
    root put f hello
    root chmod f 0640
    member open f RDONLY = EACCES
    root chown f 0 3000
    member open f RDONLY
    member open f WRONLY = EACCES
    other open f RDONLY = EACCES
    root chown f 2003 3000
    other open f RDWR
    root chown f 0 0
    member open f RDONLY = EACCES
    other open f RDONLY = EACCES
  `),
  rule('access says what open would say', `
    root put f hello
    root chown f 2001 3000
    root chmod f 0640
    owner access f rw
    owner access f x = EACCES
    owner access f f
    member access f r
    member access f w = EACCES
    other access f r = EACCES
    other access f f
    root access f rw
    root access f x = EACCES
    root chmod f 0641
    root access f x
    other access f x
    member access f x = EACCES
    owner access x f = ENOENT
    owner access f/x f = ENOTDIR
    owner mkdir d 0700
    other access d/x f = EACCES
    other access d rx = EACCES
    root access d rwx
  `),
  rule('two users and a closed folder: what one has seen is hidden from the other', `
    owner mkdir d 0700
    owner put d/f secret
    owner get d/f = ok secret
    owner list d = ok f
    owner lstat d/f : size=6
    other lstat d/f = EACCES
    other get d/f = EACCES
    other list d = EACCES
    other lstat d/nothing = EACCES
    other readlink d/f = EACCES
    owner chmod d 0755
    other get d/f = ok secret
    owner chmod d 0700
    other get d/f = EACCES
  `),
  rule('search permission of each folder on the way', `
    owner mkdir a 0755
    owner mkdir a/b 0755
    owner put a/b/f hello
    other get a/b/f = ok hello
    owner chmod a 0644
    other get a/b/f = EACCES
    other stat a/b = EACCES
    owner chmod a 0711
    other get a/b/f = ok hello
    owner chmod a/b 0600
    other get a/b/f = EACCES
    root get a/b/f = ok hello
  `)
]
