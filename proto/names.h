/* SPDX-License-Identifier: MIT */
#ifndef STK_PROTO_NAMES_H
#define STK_PROTO_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#define NS_CLIENT "jabber:client"
#define NS_STREAMS "http://etherx.jabber.org/streams"
#define NS_TLS "urn:ietf:params:xml:ns:xmpp-tls"
#define NS_SASL "urn:ietf:params:xml:ns:xmpp-sasl"
#define NS_BIND "urn:ietf:params:xml:ns:xmpp-bind"
#define NS_STANZAS "urn:ietf:params:xml:ns:xmpp-stanzas"
#define NS_PING "urn:xmpp:ping"
#define NS_KEY "urn:xmpp:key"
#define NS_NOTIFY "jabber:x:presence_notify"
#define NS_FRIEND "jabber:x:verify_friend"
#define NS_FRIENDS "jabber:x:get_friend"
#define NS_UNFRIEND "jabber:x:delete_friend"
#define NS_MODE "jabber:iq:verify_friend_mode"
#define NS_MANUAL "jabber:x:manual_authentication"
#define NS_MASK "jabber:x:mask_user"
#define NS_MASK_V2 "jabber:x:mask_user_v2"
#define NS_VIRTUAL "jabber:x:virtual_user"
#define NS_MUC "http://jabber.org/protocol/muc#"
#define NS_CREATE "http://jabber.org/protocol/create_muc"
#define NS_INVITED "http://jabber.org/protocol/user#invite_rslt"
#define NS_IQ "startalk:iq:" /* followed by the key of an IQ that no table knows */

/* The name of the header that is NUMBER on the wire, or NULL. */
const char *header_name(int32_t number);

/* The number that the header NAME is sent by; 0: it is sent as text. */
int32_t header_number(const char *name);

/* Can TEXT be the name of an element or attribute? ASCII and without colon, which is all that the protocol has use for.
 */
bool name_is_plain(const char *text);

/* Client types: "ClientTypePC" is 3, and so on. Not one: NULL, 0. */
const char *client_name(int32_t number);
int32_t client_number(const char *name);

#endif
