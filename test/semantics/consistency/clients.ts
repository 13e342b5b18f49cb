/**
 * Several clients of one server: each a mount of the packed binary with options of its own, and a process on it that
 * makes calls.
 *
 * Owns their making and their end, and the count of NFS calls that each sends (its connection passes a proxy that
 * looks). Does not know what is tested. Cold caches of one client are another's truth.
 */
import { Ganesha } from '../../peers/ganesha.ts'
import { FaultProxy } from '../../peers/fault-proxy.ts'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { procedures } from '../../../proto/nfs3/procedures.ts'
import { CallingUser, compileCaller } from '../../conformance/posix/judge.ts'
import { TestNode } from '../endtoend/node.ts'

type Counts = Readonly<Record<string, number>>

const nfsProgram = 100003
/** A hang, not a figure. */
const soonMs = 20_000
const nameOf = new Map(Object.entries(procedures).map(([name, row]) => [row.number, name]))

export class Client {
  readonly point: string
  readonly proxy: FaultProxy
  readonly #user: CallingUser
  readonly #sent: Map<string, number>

  constructor (parts: { point: string, proxy: FaultProxy, user: CallingUser, sent: Map<string, number> }) {
    this.point = parts.point
    this.proxy = parts.proxy
    this.#user = parts.user
    this.#sent = parts.sent
  }

  async call (line: string): Promise<string> { return await this.#user.call(line) }

  /** A descriptor of `open`. */
  async open (line: string): Promise<string> {
    const answer = await this.#user.call(`open ${line}`)
    if (!answer.startsWith('ok ')) throw new Error(`open ${line}: ${answer}`)
    return answer.slice(3)
  }

  /** The call, repeated until its answer is the wanted one; the last answer when that does not happen. */
  async soon (line: string, wanted: string | RegExp): Promise<string> {
    const endMs = monotonicMs() + soonMs
    for (;;) {
      const answer = await this.call(line)
      if (typeof wanted === 'string' ? answer === wanted : wanted.test(answer)) return answer
      if (monotonicMs() > endMs) return answer
      await pause(50)
    }
  }

  /** NFS calls that `work` sent, by name. */
  async sentBy (work: () => Promise<unknown>): Promise<Counts> {
    const before = new Map(this.#sent)
    await work()
    return Object.fromEntries(
      [...this.#sent].map(([name, count]) => [name, count - (before.get(name) ?? 0)] as const).filter(([, count]) =>
        count > 0
      )
    )
  }

  async close (): Promise<void> { await this.#user.close() }
}

export class Clients {
  readonly server: Ganesha
  readonly node: TestNode
  readonly #program: string
  readonly #joined: Client[] = []
  readonly #proxies: FaultProxy[] = []

  private constructor (server: Ganesha, node: TestNode, program: string) {
    this.server = server
    this.node = node
    this.#program = program
  }

  static async start (): Promise<Clients> {
    const node = new TestNode()
    const server = await Ganesha.start({ folder: node.makeFolder('export') })
    await node.startAgent()
    return new Clients(server, node, await compileCaller(node.folder))
  }

  async join (name: string, options: string): Promise<Client> {
    const { node, server } = this
    const sent = new Map<string, number>()
    const proxy = await FaultProxy.start({
      port: server.nfsPort,
      host: server.host,
      decide: ({ direction, program, procedure }) => {
        const called = nameOf.get(procedure) ?? `${procedure}`
        if (direction === 'call' && program === nfsProgram) sent.set(called, (sent.get(called) ?? 0) + 1)
        return undefined
      }
    })
    // Its port makes the options differ: equal ones would share a session.
    this.#proxies.push(proxy)
    const point = node.makeFolder(name)
    await node.mount(
      `127.0.0.1:${server.folder}`,
      point,
      `vers=3,port=${proxy.port},mountport=${server.mountPort},${options}`
    )
    const user = new CallingUser(this.#program, 'root')
    await user.call(`cd ${point}`)
    const client = new Client({ point, proxy, user, sent })
    this.#joined.push(client)
    return client
  }

  async close (): Promise<void> {
    await Promise.all(this.#joined.map(async (client) => { await client.close() }))
    await this.node.close()
    await Promise.all(this.#proxies.map(async (proxy) => { await proxy.close() }))
    await this.server.close()
  }
}
