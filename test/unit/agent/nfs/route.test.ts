/** A server of two addresses: where it is looked for after it has moved. */
import * as files from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { isErrno } from '../../../../agent/base/errno.ts'
import { clientCredential } from '../../../../agent/nfs/credentials.ts'
import { connectNfs } from '../../../../agent/nfs/connect.ts'
import { parseVolumeSpec } from '../../../../agent/volumes/spec/spec.ts'
import { NfsServer } from '../../../peers/nfs-server/server.ts'

test('a server that has moved to another address is looked for there first, not where it was', async (t) => {
  const folder = await files.mkdtemp(path.join(tmpdir(), 'volbridge-route-'))
  const first = await NfsServer.start({ folder, host: '127.0.0.1' })
  const second = await NfsServer.start({ folder, host: '127.0.0.2', port: first.port })
  const { target } = parseVolumeSpec({
    server: '127.0.0.1,127.0.0.2', share: first.share,
    mountOptions: `port=${first.nfsPort},mountport=${first.mountPort},noresvport`
  })
  const client = await connectNfs(target)
  const ask = async (): Promise<boolean> =>
    !isErrno(await client.backend.getattr(client.backend.root.handle, clientCredential))
  t.true(await ask())
  t.is(client.transport.serverAddress, `127.0.0.1:${first.port}`)
  await first.stop()
  t.true(await ask())
  t.is(client.transport.serverAddress, `127.0.0.2:${first.port}`)
  // What is at the old address now only counts who comes.
  let visitors = 0
  const trap = net.createServer((socket) => {
    visitors++
    socket.destroy()
  })
  await new Promise<void>((resolve) => { trap.listen(first.port, '127.0.0.1', resolve) })
  for (let round = 0; round < 3; round++) {
    await second.restart()
    t.true(await ask())
  }
  t.is(visitors, 0)
  await client.close()
  await new Promise((resolve) => { trap.close(resolve) })
  await second.stop()
  await files.rm(folder, { recursive: true })
})
