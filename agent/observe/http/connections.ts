/**
 * How many connections the HTTP port holds, and which of them goes when another comes.
 *
 * Owns the count per peer and in all. A newcomer always gets in: it takes the place of the connection that has waited
 * longest without a whole request, its own peer's first. So there is a place for a probe however many slow connections
 * lie about, and nobody is told "too many". Does not know requests beyond whether one is being answered.
 */
import type { Socket } from 'node:net'
import { httpConnectionsMax, httpPeerConnectionsMax } from '../../base/limits.ts'

interface Held {
  readonly socket: Socket
  readonly peer: string
  answering: number
}

/** IPv4 on a socket of both families has an IPv6 spelling. */
const peerOf = ({ remoteAddress = '' }: Socket): string => remoteAddress.replace(/^::ffff:/, '')

export class Connections {
  /** In the order in which they came or were last answered, the one that waits longest first. */
  readonly #held = new Map<Socket, Held>()

  get count (): number { return this.#held.size }

  /** Takes a connection in, and ends another where there are too many. */
  admit (socket: Socket): void {
    const peer = peerOf(socket)
    const ofPeer = [...this.#held.values()].filter((held) => held.peer === peer)
    if (ofPeer.length >= httpPeerConnectionsMax) endOne(ofPeer)
    else if (this.#held.size >= httpConnectionsMax) endOne([...this.#held.values()])
    this.#held.set(socket, { socket, peer, answering: 0 })
    socket.once('close', () => { this.#held.delete(socket) })
  }

  /** A request has come whole: until the answer is `done` this connection goes only when all the others are as busy. */
  began (socket: Socket): { readonly done: () => void } {
    const held = this.#held.get(socket)
    if (held === undefined) return { done: () => undefined }
    held.answering++
    return {
      done: () => {
        held.answering--
        if (!this.#held.delete(socket)) return
        this.#held.set(socket, held)
      }
    }
  }
}

function endOne (candidates: readonly Held[]): void {
  const victim = candidates.find(({ answering }) => answering === 0) ?? candidates[0]
  victim?.socket.destroy()
}
