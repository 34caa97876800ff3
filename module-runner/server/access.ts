import { timingSafeEqual } from 'node:crypto'

/** Does this Authorization header carry the token? Compared in constant time; without a token everything is allowed. */
export function tokenCheck(token: string | undefined): (authorization: string | undefined) => boolean {
  if (token === undefined) return () => true
  const wanted = Buffer.from(`Bearer ${token}`)
  return (authorization) => {
    const given = Buffer.from(authorization ?? '')
    return given.length === wanted.length && timingSafeEqual(given, wanted)
  }
}
