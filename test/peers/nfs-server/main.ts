/**
 * The server as a process: `node main.ts --folder DIR [--share /export] [--port N]`. Prints one line of JSON when it is
 * ready and ends with the process that started it, by the IPC channel or, without one, by a signal. Owns nothing else.
 */
import process from 'node:process'
import { parseArgs } from 'node:util'
import { NfsServer } from './server.ts'

const { values } = parseArgs({
  options: {
    folder: { type: 'string' }, share: { type: 'string', default: '/export' }, port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' }
  }
})
if (values.folder === undefined) {
  console.error('usage: main.ts --folder DIR [--share /export] [--port N] [--host ADDRESS]')
  process.exit(2)
}
// Modes are the client's business; ours must not cut them.
process.umask(0)
const server = await NfsServer.start({
  folder: values.folder, share: values.share, port: Number(values.port), host: values.host
})
process.on('disconnect', () => { process.exit(0) })
console.log(
  JSON.stringify({ port: server.port, share: server.share, url: server.url(), mountOptions: server.mountOptions })
)
