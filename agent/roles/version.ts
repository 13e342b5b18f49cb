/** The version of this build. Owns where it comes from: package.json, which the bundler compiles in. */
import facts from '../../package.json' with { type: 'json' }

export const version: string = facts.version
