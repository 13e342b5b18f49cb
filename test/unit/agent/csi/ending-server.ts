/**
 * An agent's socket whose process ends with its first answer, as one does that hands over. Argument: the socket's path.
 */
import { writeSync } from 'node:fs'
import process from 'node:process'
import { RpcServer } from '../../../../agent/csi/server.ts'
import { loadServices } from '../../../../proto/csi/load.ts'

const server: RpcServer = new RpcServer({
  services: loadServices(), socketPath: process.argv[2] ?? '', field: 'socket',
  unary: { observer: () => () => undefined, door: undefined }
}, {
  Agent: {
    HandOver: () => {
      setImmediate(() => { void server.close({ graceMs: 5000 }).then(() => { process.exit(0) }) })
      return { accepted: true, version: '1.2.3', pid: process.pid }
    }
  }
})
await server.listen()
writeSync(1, 'ready\n')
