/** What a container's runtime does to a read-only volumeMount: a bind remounted without nosuid and nodev. */
import { chmodSync, copyFileSync } from 'node:fs'
import path from 'node:path'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { mountsBelow, run, shell, TestNode, type Ran } from './node.ts'

testNeeding('root', 'fuse', 'ganesha')('a set-id program gives nobody rights, also through a bind whose nosuid somebody has lifted', async (t) => {
  const server = await Ganesha.start()
  const node = new TestNode()
  const as = async (uid: number, program: string): Promise<Ran> =>
    await run('setpriv', ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', program])
  try {
    const [point, lifted] = [node.makeFolder('mnt'), node.makeFolder('lifted')]
    const plain = path.join(server.folder, 'plain')
    const setId = path.join(server.folder, 'set-id')
    for (const file of [plain, setId]) copyFileSync('/usr/bin/id', file)
    chmodSync(plain, 0o755)
    chmodSync(setId, 0o4755)
    await node.mount(`${server.host}:${server.folder}`, point, server.mountOptions)
    await shell(`mount --bind ${point} ${lifted} && mount -o remount,bind,ro,suid,dev ${lifted}`)
    t.notRegex(mountsBelow(lifted)[0]?.options ?? 'nosuid', /nosuid|nodev/, 'the flags are gone')
    t.regex((await as(1500, `${lifted}/plain`)).stdout, /^uid=1500\S* gid=1500\S* groups=1500\S*$/m)
    const ran = await as(1500, `${lifted}/set-id`)
    t.notRegex(ran.stdout, /euid=0/)
    t.regex(ran.stderr, /Permission denied/)
    t.regex((await as(0, `${lifted}/set-id`)).stdout, /^uid=0/m, 'who gains nothing runs it')
    t.regex(await shell(`stat -c %a ${point}/set-id`), /^4755$/m, 'the bits are told as they are')
    await shell(`umount ${lifted}`)
  } finally {
    await node.close()
    await server.close()
  }
})
