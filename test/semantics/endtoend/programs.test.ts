/**
 * Everyday programs where servers differ from the plain export of `workloads.test.ts`: every user is one to the server,
 * root is nobody and the volume has an identity, the folder lies on a second file system of the export. The judge is
 * the exported folder itself.
 */
import { chmodSync, chownSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Ganesha } from '../../peers/ganesha.ts'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, shell, TestNode } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

/** Who runs the programs, and is nobody that the server knows. */
const uid = 1000

interface World {
  readonly server: { readonly host: string, readonly options: string, readonly share: string }
  close (): Promise<void>
}

/** `folder` is the export; the programs work in `data` below it. */
type MakeWorld = (folder: string, data: string) => Promise<World>

const onGanesha = (options: Parameters<typeof Ganesha.start>[0], more = ''): MakeWorld => async (folder, data) => {
  for (const place of [folder, data]) chownSync(place, 1024, 100)
  const server = await Ganesha.start({ folder, ...options })
  return {
    server: { host: server.host, options: `${server.mountOptions}${more}`, share: folder },
    close: () => server.close()
  }
}

/** Both file systems number their objects from the start. */
const onSecondFilesystem: MakeWorld = async (folder, data) => {
  const places = [folder, data]
  for (const place of places) {
    mkdirSync(place, { recursive: true })
    await shell(`mount -t tmpfs -o size=64m vbfs ${place}`)
  }
  const server = await NfsServer.start({ folder })
  return {
    server: { host: server.host, options: `port=${server.port},mountport=${server.port}`, share: server.share },
    close: async () => {
      await server.close()
      for (const place of places.reverse()) await run('umount', ['-l', place])
    }
  }
}

const worlds = {
  'every user is one to the server': {
    make: onGanesha({ squash: 'All_Squash', exportLines: ['  Anonymous_Uid = 1024;', '  Anonymous_Gid = 100;'] }),
    owner: 1024
  },
  'root is nobody, and the volume has an identity': {
    make: onGanesha({ squash: 'Root_Squash' }, ',identity=1024:100'), owner: 1024
  },
  'a second file system of the export': { make: onSecondFilesystem, owner: uid }
} as const satisfies Record<string, { make: MakeWorld, owner: number }>

/**
 * In $D on the mount, from $S; $T is for what is brought back. Each ends with what says that it is right. `cp -a` would
 * set an ACL too, which Linux lets nobody but the owner by number ask for, on any file system (fs/posix_acl.c).
 */
const programs = {
  'cp':
    'cp -dR --preserve=links,timestamps $S $D/cp; diff -r --no-dereference $S $D/cp; test $D/cp/d1/f3 -ef $D/cp/d1/hard',
  'tar, there and back': `mkdir $D/tar; tar -C $S -c . | tar -C $D/tar -xp; diff -r --no-dereference $S $D/tar
    mkdir $T/tar; tar -C $D/tar -c . | tar -C $T/tar -xp; diff -r --no-dereference $S $T/tar
    test $T/tar/d1/f3 -ef $T/tar/d1/hard`,
  'rsync, and a second time nothing': `rsync -rlptH --omit-link-times $S/ $D/rsync/
    diff -r --no-dereference $S $D/rsync; test -z "$(rsync -rlptHi --omit-link-times --checksum $S/ $D/rsync/)"`,
  'find and du': `test $(find $D/cp | wc -l) = $(find $S | wc -l); test $(du -al $D/cp | wc -l) = $(du -al $S | wc -l)
    test $(find $D/cp -printf '%i\\n' | sort -u | wc -l) = $(find $S -printf '%i\\n' | sort -u | wc -l)`,
  'git': `git init -q $D/git; cp -r $S/. $D/git; cd $D/git; git add .; git commit -qm one; git fsck --full --strict
    test -z "$(git status --porcelain)"; git clone -q --no-hardlinks $D/git $D/clone; git -C $D/clone fsck --strict
    diff -r --no-dereference -x .git $S $D/clone`,
  'make, and again nothing to do': `mkdir $D/make; cd $D/make; printf 'b c a' > in
    printf 'out: in\\n\\tsort in > out\\n\\tln -f out again\\n' > Makefile; make -s; make -q; cmp out again`,
  'sqlite': `for i in $(seq 30); do sqlite3 $D/db "create table if not exists t(v); insert into t values($i)"; done
    test "$(sqlite3 $D/db 'pragma integrity_check; select sum(v) from t')" = "$(printf 'ok\\n465')"`,
  'mv and chmod': 'mv $D/cp $D/moved; chmod -R go-rwx $D/moved; diff -r --no-dereference $S $D/moved',
  'rm -r': 'cd /; rm -r $D/moved $D/tar $D/rsync $D/git $D/clone $D/make $D/db; test -z "$(ls -A $D)"'
} as const

function makeSource (folder: string): void {
  for (let index = 0; index < 60; index++) {
    const below = path.join(folder, `d${index % 5}`)
    mkdirSync(below, { recursive: true })
    const bytes = index === 7 ? 1_300_000 : (index * 379) % 9000
    writeFileSync(path.join(below, `f${index}`), Buffer.alloc(bytes, `${index}|`), {
      mode: index % 7 === 0 ? 0o750 : 0o640
    })
  }
  symlinkSync('d1/f1', path.join(folder, 'link'))
}

for (const [name, { make, owner }] of Object.entries(worlds)) {
  check(`rsync, tar, cp, git, find, du, make, sqlite and rm do what they do anywhere: ${name}`, async (t) => {
    t.timeout(300_000)
    const node = new TestNode()
    let world: World | undefined
    try {
      const source = node.makeFolder('source')
      makeSource(source)
      await shell(
        `ln ${source}/d1/f6 ${source}/d1/hard; ln -f ${source}/d1/hard ${source}/d1/f3; chown -hR ${uid}:${uid} ${source}`
      )
      const back = node.makeFolder('back')
      chownSync(back, uid, uid)
      const folder = node.makeFolder('export')
      world = await make(folder, node.makeFolder('export/data'))
      await node.startAgent()
      const mounted = node.makeFolder('mnt')
      if (owner === uid) chownSync(path.join(folder, 'data'), uid, uid)
      chmodSync(path.join(folder, 'data'), 0o755)
      await node.mount(`${world.server.host}:${world.server.share}`, mounted, world.server.options)
      const preamble = `set -eo pipefail; umask 022; S=${source} D=${mounted}/data T=${back}; export HOME=$T
        git config --global safe.directory '*'; git config --global user.email a@example.org; git config --global user.name A`
      for (const [program, script] of Object.entries(programs)) {
        const ran = await run('setpriv', [
          '--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '/bin/bash', '-c', `${preamble}\n${script}`
        ], { cwd: '/' })
        t.is(ran.code, 0, `${program}: ${ran.stdout.slice(-1000)} ${ran.stderr.slice(-2000)}`)
        if (program !== 'cp') continue
        t.is(await shell(`diff -r --no-dereference ${source} ${folder}/data/cp`), '')
        t.is(statSync(path.join(folder, 'data/cp/d1/f1')).uid, owner)
      }
      const ended = await node.unmount(mounted)
      t.is(ended.code, 0, ended.stderr)
    } finally {
      await world?.close()
      await node.close()
    }
  })
}
