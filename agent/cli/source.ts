/**
 * SOURCE and `-o` of `volbridge mount` as volume attributes.
 *
 * Owns the two spellings of a source and which options are attributes. Does not know what an option means: the agent
 * validates.
 */
import { VolumeError } from '../base/errors.ts'

export type Attributes = Readonly<Record<string, string>>

/** Attributes that may be given with `-o`, in any case; everything else there is an nfs(5) option. */
const attributeNames: ReadonlyMap<string, string> = new Map(
  [
    'type', 'server', 'share', 'subDir', 'client', 'consistency', 'identity', 'idmap', 'mountPermissions',
    'fsGroupContents'
  ].map(
    (name) => [name.toLowerCase(), name]
  )
)

function refuse (field: string, value: string, why: string, remedy: string): never {
  throw new VolumeError('INVALID', `${field}: ${JSON.stringify(value.slice(0, 300))} ${why}`, { field, remedy })
}

const remedy = 'write host:/path or nfs://host[:port]/path, an IPv6 address in brackets'

/** `nfs://host[:port]/path`, RFC 2224, whose path is %-encoded. */
function parseUrl (text: string): Attributes {
  const found = /^nfs:\/\/(\[[^\]/]+\]|[^:/[\]]+)(?::(\d{1,5}))?(\/.*)$/.exec(text)
  if (found === null) return refuse('SOURCE', text, 'is not an nfs:// URL with a host and a path', remedy)
  const [, server = '', port, share = '/'] = found
  let decoded: string
  try {
    decoded = decodeURIComponent(share)
  } catch {
    return refuse('SOURCE', text, 'has a broken %-escape', 'write a plain "%" as %25')
  }
  return { server, share: decoded, ...(port === undefined ? {} : { mountOptions: `port=${port}` }) }
}

/** `host:/path` as mount.nfs(8) takes it; several addresses of one server with commas between. */
function parseHostPath (text: string): Attributes {
  const found = /^((?:\[[^\]]+\]|[^:/[\],]+)(?:,(?:\[[^\]]+\]|[^:/[\],]+))*):(\/.*)$/.exec(text)
  if (found === null) return refuse('SOURCE', text, 'is not host:/path', remedy)
  const [, server = '', share = ''] = found
  return { server, share }
}

/** Schemes of URLs. Anything else before `://` is a host whose path begins with two slashes, which mean one. */
const urlScheme = /^(nfs4?|https?|smb|cifs|s?ftp|ssh|file|s3|davs?|webdav):\/\//i

export const parseSource = (text: string): Attributes => urlScheme.test(text) ? parseUrl(text) : parseHostPath(text)

/** Splits `-o` lists into attributes and mount options. An attribute given twice with two values is refused. */
export function parseMountArguments (source: string, options: readonly string[]): Attributes {
  const parsed = parseSource(source)
  const attributes = new Map(Object.entries(parsed).filter(([key]) => key !== 'mountOptions'))
  const mountOptions = parsed['mountOptions'] === undefined ? [] : [parsed['mountOptions']]
  for (const option of options.flatMap((list) => list.split(',')).filter((text) => text !== '')) {
    const equals = option.indexOf('=')
    const name = attributeNames.get((equals === -1 ? option : option.slice(0, equals)).toLowerCase())
    if (name === undefined) {
      mountOptions.push(option)
      continue
    }
    const value = equals === -1 ? '' : option.slice(equals + 1)
    if (attributes.get(name) !== undefined && attributes.get(name) !== value) {
      refuse('-o', option, `contradicts ${name}=${attributes.get(name) ?? ''}`, 'give it once')
    }
    attributes.set(name, value)
  }
  return {
    ...Object.fromEntries(attributes), ...(mountOptions.length === 0 ? {} : { mountOptions: mountOptions.join(',') })
  }
}
