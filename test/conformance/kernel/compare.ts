/**
 * The same steps with the kernel's NFSv3 client and with ours, in one virtual machine, on one server.
 *
 * Owns the machine, the servers, and the two mounts. Answers what both said, a step each. Knows no right answer, and
 * not which differences are known.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { Ganesha } from '../../peers/ganesha.ts'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import { hostAddress, VirtualMachine } from '../../peers/vm/machine.ts'
import { compileCaller } from '../posix/judge.ts'
import { answersOf, programOf, textOf, type Program } from './program.ts'
import { prepareObjects } from './rights.ts'
import type { WorldToCompare } from './worlds.ts'

const binary = path.resolve(import.meta.dirname, '../../../dist/volbridge')
const clients = ['kernel', 'ours'] as const
type Client = typeof clients[number]
/** A hang, not a figure. */
const programMs = 900_000

export interface Compared {
  readonly world: string
  readonly rule: string
  readonly call: string
  readonly kernel: string
  readonly ours: string
}

interface Server { readonly share: string, readonly folder: string, readonly options: string, close (): Promise<void> }

async function startServer (kind: WorldToCompare['server'], folder: string): Promise<Server> {
  if (kind === 'scripted') {
    const server = await NfsServer.start({ folder, share: '/export' })
    return { share: server.share, folder, options: server.mountOptions, close: () => server.close() }
  }
  const server = await Ganesha.start({ ...kind, folder })
  return { share: server.folder, folder, options: server.mountOptions, close: () => server.close() }
}

/** A folder a case, for everybody, with the objects that some cases ask about. */
function prepare (folder: string, programs: readonly Program[]): void {
  for (const client of clients) {
    for (const [index, { title }] of programs.entries()) {
      const place = path.join(folder, client, String(index))
      mkdirSync(place, { recursive: true })
      if (title.startsWith('who may do what')) execFileSync('sh', ['-ec', prepareObjects], { cwd: place })
      chmodSync(place, 0o777)
    }
  }
  chmodSync(folder, 0o777)
}

export class Comparison {
  readonly #machine: VirtualMachine
  readonly #folder: string
  readonly #programs: ReadonlyMap<string, readonly Program[]>

  private constructor (machine: VirtualMachine, folder: string, programs: ReadonlyMap<string, readonly Program[]>) {
    this.#machine = machine
    this.#folder = folder
    this.#programs = programs
  }

  static async start (worlds: Readonly<Record<string, WorldToCompare>>): Promise<Comparison> {
    const folder = mkdtempSync(path.join(process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp', 'volbridge-compare-'))
    try {
      chmodSync(folder, 0o755)
      const conductor = path.join(folder, 'conductor')
      execFileSync('gcc', ['-O1', '-Wall', '-o', conductor, path.join(import.meta.dirname, 'conductor.c')])
      const programs = new Map(Object.entries(worlds).map(([name, { rules }]) => [name, rules.map(programOf)]))
      const files: Record<string, string> = {
        '/usr/bin/volbridge': binary, '/usr/bin/conductor': conductor, '/usr/bin/caller': await compileCaller(folder)
      }
      for (const [index, each] of [...programs.values()].entries()) {
        const file = path.join(folder, `program-${index}`)
        writeFileSync(file, textOf(each))
        files[`/programs/${index}`] = file
      }
      const machine = await VirtualMachine.start({ modules: ['sunrpc', 'nfs', 'fuse'], memoryMebibytes: 1536, files })
      return new Comparison(machine, folder, programs)
    } catch (error) {
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  async run (name: string, world: WorldToCompare): Promise<readonly Compared[]> {
    const programs = this.#programs.get(name) ?? []
    const number = [...this.#programs.keys()].indexOf(name)
    const folder = path.join(this.#folder, `export-${number}`)
    mkdirSync(folder)
    prepare(folder, programs)
    const server = await startServer(world.server, folder)
    try {
      const said = { kernel: [], ours: [] } as Record<Client, readonly string[]>
      for (const client of clients) said[client] = await this.#runProgram(client, server, number)
      return compared(name, programs, said)
    } finally {
      await server.close()
    }
  }

  async #runProgram (client: Client, server: Server, number: number): Promise<readonly string[]> {
    const source = `${hostAddress}:${server.share}`
    const addresses = `addr=${hostAddress},mountaddr=${hostAddress},mountproto=tcp`
    const mount = client === 'kernel'
      ? `conductor mount ${source} /mnt nfs ${addresses},${server.options}`
      : `volbridge mount ${source} /mnt -o ${server.options}`
    const output = await this.#machine.shell(
      `mkdir -p /mnt; ${mount} > /tmp/mount-output 2>&1 || { cat /tmp/mount-output; exit 1; }
      conductor run /usr/bin/caller /mnt/${client} < /programs/${number}
      ${client === 'kernel' ? 'umount /mnt' : 'volbridge unmount /mnt > /dev/null'}`,
      programMs
    )
    return output.split('\n')
  }

  async close (): Promise<void> {
    await this.#machine.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function compared (
  world: string,
  programs: readonly Program[],
  said: Readonly<Record<Client, readonly string[]>>
): readonly Compared[] {
  let at = 0
  return programs.flatMap((program) => {
    // The first line is the answer to `in`.
    const [kernel, ours] = clients.map((client) =>
      answersOf(program, said[client].slice(at + 1, at + 1 + program.steps.length))
    )
    at += 1 + program.steps.length
    return program.steps.map(({ call }, index) => ({
      world, rule: program.title, call, kernel: kernel?.[index] ?? '', ours: ours?.[index] ?? ''
    }))
  })
}
