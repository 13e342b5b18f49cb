/**
 * A connection as grpc-js gets it: what the client says goes through the rewriter, what the server says does not.
 *
 * Owns the stream between the two, with the pressure of both directions. Does not know frames.
 */
import { Duplex } from 'node:stream'
import { AuthorityRewriter } from './rewriter.ts'

class AuthorityFront extends Duplex {
  readonly #connection: Duplex
  readonly #rewriter = new AuthorityRewriter()

  constructor (connection: Duplex) {
    super()
    this.#connection = connection
    connection.on('data', (chunk: Buffer) => { this.#received(chunk) })
    connection.on('end', () => { this.push(null) })
    // Whoever is at the other end is gone or broken: there is nobody to tell.
    connection.on('error', () => { this.destroy() })
    connection.on('close', () => { this.destroy() })
    connection.pause()
  }

  #received (chunk: Buffer): void {
    let bytes: Buffer
    try {
      bytes = this.#rewriter.push(chunk)
    } catch {
      // No HTTP/2, and no stream to answer on.
      this.destroy()
      return
    }
    // An empty push means that there is nothing to read, and would end the reading.
    if (bytes.length > 0 && !this.push(bytes)) this.#connection.pause()
  }

  override _read (): void { this.#connection.resume() }

  override _write (chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#connection.write(chunk, encoding, done)
  }

  override _writev (chunks: { chunk: Buffer, encoding: BufferEncoding }[], done: (error?: Error | null) => void): void {
    this.#connection.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done)
  }

  override _final (done: (error?: Error | null) => void): void {
    this.#connection.end(() => { done() })
  }

  override _destroy (error: Error | null, done: (error?: Error | null) => void): void {
    this.#connection.destroy()
    done(error)
  }
}

/**
 * Accepts whatever a client takes for the authority of a unix socket: kubelets before 1.26 and some tools send its raw
 * path, which Node's HTTP/2 refuses before any JavaScript runs, and no option relaxes that.
 */
export const acceptAnyAuthority = (connection: Duplex): Duplex => new AuthorityFront(connection)
