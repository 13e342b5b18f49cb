/** When set-user-id and set-group-id bits go: write(2), truncate(2), chown(2). Owns the rules of POSIX and of Linux
 * where POSIX leaves it open. */
import { rule } from '../judge.ts'

const prepare = `
    owner put f hello
    root chown f 2001 3000
    root chmod f 06777
    owner lstat f : mode=6777`

export const setIdRules = [
  rule('a write by anybody but root drops both bits', `${prepare}
    other open f WRONLY -> f
    other write $f x = ok 1
    other fsync $f
    root lstat f : mode=0777
  `),
  rule('a write by the owner drops both bits, seen at once by the writer', `${prepare}
    owner open f WRONLY -> f
    owner write $f x = ok 1
    owner fstat $f : mode=0777
    owner lstat f : mode=0777
  `),
  rule('a write by root keeps them', `${prepare}
    root open f WRONLY -> f
    root write $f x = ok 1
    root fsync $f
    root lstat f : mode=6777
  `),
  rule(
    'truncate and O_TRUNC by somebody else drop them, if the server does; the first byte written drops them on any',
    `${prepare}
    other truncate f 2
    root lstat f : mode=0777 size=2 @nfs mode=6777 size=2
    root chmod f 06777
    other open f WRONLY|TRUNC -> f
    root lstat f : mode=0777 size=0 @nfs mode=6777 size=0
    root chmod f 06777
    other ftruncate $f 10
    root lstat f : mode=0777 size=10 @nfs mode=6777 size=10
    other write $f x = ok 1
    root lstat f : mode=0777 size=10
  `
  ),
  rule('truncate by the owner drops them', `${prepare}
    owner truncate f 2
    root lstat f : mode=0777 size=2
    root chmod f 06777
    owner open f WRONLY|TRUNC -> f
    root lstat f : mode=0777
    root chmod f 06777
    owner ftruncate $f 100
    root lstat f : mode=0777
    owner open f CREAT|TRUNC|RDWR
    root lstat f : mode=0777
  `),
  rule('chown by the owner drops them, chown by root of an executable too', `${prepare}
    owner chown f 2001 2001
    root lstat f : mode=0777 gid=2001
    root chmod f 06777
    root chown f 2002 2002
    root lstat f : mode=0777 uid=2002
  `),
  rule('set-gid without group execution is no set-id bit and stays', `
    owner put f hello
    root chown f 2001 3000
    root chmod f 02766
    owner truncate f 2
    owner lstat f : mode=2766
    root chown f 2001 2500
    root lstat f : mode=2766
  `),
  rule('an O_DIRECT write drops them', `${prepare}
    other open f WRONLY|DIRECT -> f
    other pwrite $f {4096*d} 0 = ok 4096
    other fsync $f
    root lstat f : mode=0777 size=4096
  `),
  rule('folders keep set-gid and sticky when somebody makes things in them or changes their owner', `
    root mkdir d 0777
    root chmod d 03777
    other touch d/f 0644
    root lstat d : mode=3777
    root chown d 2001 3000
    root lstat d : mode=3777
  `),
  rule('a chmod between writes is not undone by them', `
    owner put f hello
    owner open f WRONLY -> f
    owner write $f x = ok 1
    owner chmod f 06755
    owner chmod f 0711
    owner write $f y = ok 1
    owner close $f
    owner lstat f : mode=0711
    owner get f = ok xyllo
  `)
]
