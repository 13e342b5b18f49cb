/**
 * Who may see details over HTTP: whoever proves it with a bearer token.
 *
 * Owns how a token is brought, what a refusal says, and asking one judge after the other. Does not know the judges:
 * `token-file.ts` and `token-review.ts` are two.
 */
import { messageOf } from '../../base/errors.ts'

/** `unknown`: nobody has such a token. `forbidden`: somebody has, who may not. */
export type Judgement = 'allowed' | 'unknown' | 'forbidden'

/** @throws when it cannot be judged now. */
export type Judge = (token: string) => Promise<Judgement>

export interface Refusal { readonly status: 401 | 403 | 503, readonly text: string }

/**
 * The token of an `Authorization` field: `Bearer TOKEN` (RFC 6750), or the password of `Basic` (RFC 7617), which is
 * what a browser asks a person for.
 */
export function tokenOf (field: string | undefined): string | undefined {
  const [scheme = '', value = ''] = (field ?? '').trim().split(/ +/, 2)
  if (value === '') return undefined
  if (scheme.toLowerCase() === 'bearer') return value
  if (scheme.toLowerCase() !== 'basic') return undefined
  const pair = Buffer.from(value, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  return colon === -1 || colon === pair.length - 1 ? undefined : pair.slice(colon + 1)
}

const elsewhere = '`volbridge status` on the node tells the same'

/** Undefined: may be told. */
export async function refusalOf (field: string | undefined, judges: readonly Judge[]): Promise<Refusal | undefined> {
  if (judges.length === 0) {
    return {
      status: 403,
      text:
        `details are not told here: ${elsewhere}; the agent's --http-token-file or --http-token-review opens this page`
    }
  }
  const token = tokenOf(field)
  if (token === undefined) {
    return { status: 401, text: `a bearer token is needed (a browser: as password); ${elsewhere}` }
  }
  return await judged(token, judges)
}

async function judged (token: string, judges: readonly Judge[]): Promise<Refusal | undefined> {
  let refusal: Refusal = { status: 401, text: 'this token is not known here' }
  for (const judge of judges) {
    try {
      const judgement = await judge(token)
      if (judgement === 'allowed') return undefined
      if (judgement === 'forbidden') refusal = { status: 403, text: 'this token is not allowed to see the status' }
    } catch (error) {
      if (refusal.status === 401) refusal = { status: 503, text: `the token cannot be judged now: ${messageOf(error)}` }
    }
  }
  return refusal
}
