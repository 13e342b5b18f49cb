/**
 * The administrator's limit on FUSE requests (`fs.fuse.max_request_timeout`) with a server that falls silent: the
 * kernel would abort the mount. The setting is the machine's, and is put back.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, shell, TestNode } from './node.ts'

const sysctl = '/proc/sys/fs/fuse/max_request_timeout'
const foregroundTitle =
  'the same limit and a silent server under mount --foreground: EIO, and the mount lives when it is back'
const title =
  'under a limit on requests that the node sets, programs get EIO from a silent server, and the mount lives when it is back'

if (!existsSync(sysctl)) {
  for (const each of [title, foregroundTitle]) test.skip(`${each} (this kernel has no ${sysctl})`, () => undefined)
} else {
  testNeeding('root', 'fuse', 'ganesha')(title, async (t) => {
    const before = readFileSync(sysctl, 'utf8')
    const server = await Ganesha.start()
    const node = new TestNode()
    try {
      writeFileSync(sysctl, '15')
      const point = node.makeFolder('mnt')
      await node.mount(`${server.host}:${server.folder}`, point, server.mountOptions)
      writeFileSync(sysctl, before)
      t.regex((await node.command(['status', ...node.places])).stdout, /EIO when the server is silent/)
      await shell(`echo kept > ${point}/file`)
      server.stop()
      // The kernel looks every 15 seconds: this is silence enough for it to end the mount twice.
      const tries = await Promise.all(
        [`cat ${point}/file`, `echo new > ${point}/other`, `ls -U ${point}`, `stat ${point}/missing`].map(
          async (command) =>
            await run('/bin/sh', ['-c', `for i in 1 2 3; do ${command}; done; exit 1`], {
              timeoutMs: 120_000
            })
        )
      )
      for (const { stderr } of tries) t.regex(stderr, /Input\/output error/)
      await shell('sleep 20')
      server.resume()
      t.is(await shell(`until cat ${point}/file; do sleep 1; done 2> /dev/null`), 'kept\n')
      await shell(`echo more > ${point}/file`)
      t.is(readFileSync(path.join(server.folder, 'file'), 'utf8'), 'more\n')
      t.is((await node.unmount(point)).code, 0)
    } finally {
      writeFileSync(sysctl, before)
      server.resume()
      await node.close()
      await server.close()
    }
  })

  testNeeding('root', 'fuse', 'ganesha')(foregroundTitle, async (t) => {
    const before = readFileSync(sysctl, 'utf8')
    const server = await Ganesha.start()
    const node = new TestNode()
    const point = node.makeFolder('mnt')
    const source = `${server.host}:${server.folder}`
    const ended = node.command(['mount', '--foreground', source, point, '-o', server.mountOptions], {
      timeoutMs: 300_000
    })
    try {
      writeFileSync(sysctl, '15')
      await shell(`until mountpoint -q ${point} && echo kept > ${point}/file; do sleep 0.1; done`)
      writeFileSync(sysctl, before)
      server.stop()
      const { stderr } = await run('/bin/sh', ['-c', `cat ${point}/file; stat ${point}/missing; exit 1`], {
        timeoutMs: 120_000
      })
      t.regex(stderr, /Input\/output error/)
      await shell('sleep 20')
      server.resume()
      t.is(await shell(`until cat ${point}/file; do sleep 1; done 2> /dev/null`, { timeoutMs: 60_000 }), 'kept\n')
    } finally {
      writeFileSync(sysctl, before)
      server.resume()
      await run('umount', [point])
      await ended
      await node.close()
      await server.close()
    }
  })
}
