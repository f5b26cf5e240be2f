// What the portal says when something goes wrong: plain words for people, chosen by status and code.
//
// It never shows text from an answer or from the address: what the token handler writes is for developers.

/** The API's own refusal: no word of the token handler, and so no code. */
export class ApiError extends Error {
  constructor(status) {
    super(`the API answered ${status}`);
    this.status = status;
  }
}

/** `{text, action}` for an error; the action is `sign-in`, `again` or null. */
export function wordsFor(error, { signedIn }) {
  const { status, code, retryAfter } = error;
  // Without a status nobody answered.
  if (!status) return { text: 'The server does not answer. Are you online?', action: 'again' };
  if (code === 'session_expired') {
    return { text: 'Your session has ended. Please sign in again; you will come back to this page.', action: 'sign-in' };
  }
  if (code === 'unauthorized') {
    return { text: 'You are signed out. Please sign in again; you will come back to this page.', action: 'sign-in' };
  }
  const wait = retryAfter ? `Please try again in ${retryAfter} ${retryAfter === 1 ? 'second' : 'seconds'}.` : 'Please try again in a moment.';
  const still = signedIn ? ' You are still signed in.' : '';
  const byCode = {
    login_state_invalid: ['That sign-in took too long, or began in another browser. Please start again.', 'sign-in'],
    authorization_failed: ['The sign-in did not work. Please try again.', 'sign-in'],
    provider_error: [`The sign-in service does not answer as it should.${still} ${wait}`, 'again'],
    provider_unavailable: [`The sign-in service takes a break.${still} ${wait}`, 'again'],
  };
  const byStatus = {
    401: ['The shop does not accept your sign-in. Sign out and in again.', null],
    403: ['This request was refused for your safety. Reload the page and try again.', null],
    404: ['There is nothing here.', null],
    413: ['That is too large. Please send something smaller.', null],
    429: [`That was a little fast. ${wait}`, 'again'],
    502: [`The shop does not answer right now.${still} ${wait}`, 'again'],
    503: [`The service takes a break.${still} ${wait}`, 'again'],
    504: [`The shop takes too long to answer.${still} ${wait}`, 'again'],
  };
  const [text, action] = byCode[code] ?? byStatus[status] ?? ['Something went wrong on our side.', null];
  return { text, action };
}

/** A code of `?login_error=` that the portal knows; anything else, which anybody can write, becomes `other`. */
export function knownLoginError(code) {
  return Object.hasOwn(LOGIN_ERRORS, code) ? code : 'other';
}

/** For the `error` of `handleCallback`: the provider's code, where it is the provider that refused. */
export function wordsForLogin({ code, providerError }) {
  return LOGIN_ERRORS[knownLoginError(providerError ?? code)];
}

const LOGIN_ERRORS = {
  access_denied: 'You cancelled the sign-in. Nothing has changed.',
  login_required: 'The provider wants you to sign in again.',
  interaction_required: 'The provider wants to ask you something first. Please sign in again.',
  consent_required: 'The provider needs your consent. Please sign in again.',
  temporarily_unavailable: 'The sign-in service takes a break. Please try again in a moment.',
  login_state_invalid: 'That sign-in took too long, or began in another browser. Please start again.',
  provider_error: 'The sign-in service did not answer as it should. Please try again.',
  provider_unavailable: 'The sign-in service cannot be reached right now. Please try again in a moment.',
  store_unavailable: 'The service takes a break. Please try again in a moment.',
  other: 'The sign-in did not work. Please try again.',
};
