/** A process whose file system meets a broken invariant in a write-back that nobody awaits. Prints what is heard. */
import { InvariantError } from '../../../../agent/base/errors.ts'
import { untilBroken } from '../../../../agent/roles/broken.ts'
import { World } from '../../../peers/filesystem-user.ts'
import { turns } from '../../../peers/manual-clock.ts'

const broken = untilBroken()
broken.addEventListener('abort', () => {
  process.stdout.write(`broken: ${String(broken.reason)}\n`)
})
const world = new World()
const file = await world.create('/a')
world.server.intercept('write', async () => { throw new InvariantError('an arena block is released once') })
process.stdout.write(`write: ${String(await world.write(file, 0, 'hello'))}\n`)
world.clock.advance(1_000)
await turns()
